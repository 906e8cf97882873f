"""torch.cuda."""

from vllm.machine import GIB_BYTES, Machine


def mem_get_info() -> tuple[int, int]:
    """(free, total) of the first GPU, in bytes. RuntimeError where there is none."""
    here = Machine.here()
    if not here.gpu_count or not here.driver:
        raise RuntimeError("No CUDA GPUs are available")
    total = int(here.total_gib * GIB_BYTES)
    return total // 50, total
