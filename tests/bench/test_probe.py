"""The probe reads figures out of vLLM's log: a pattern that misses would lose a measurement."""

from bench.probe import read_log

LOG = """
INFO [gpu_model_runner.py] Model loading took 71.23 GiB memory and 12.1 seconds
INFO [gpu_worker.py] Available KV cache memory: 4.12 GiB
INFO [kv_cache_utils.py] GPU KV cache size: 62,927 tokens
INFO [monitor.py] torch.compile took 8.71 s in total
INFO [gpu_model_runner.py] Graph capturing finished in 10 secs, took 0.51 GiB
INFO [core.py:337] init engine (profile, create kv cache, warmup model) took 27.03 s
INFO [cuda.py] Using FLASH_ATTN_MLA attention backend out of potential backends
INFO [compressed_tensors_moe.py] Using 'MARLIN' WNA16 MoE backend
"""


def test_log_gives_memory_times_and_kernels_when_the_engine_started():
    """These are the planner's measured points."""
    figures = read_log(LOG)

    assert (figures["weights_gib"], figures["kv_gib"], figures["kv_tokens"]) == (71.23, 4.12, 62927)
    assert (figures["compile_s"], figures["graphs_s"], figures["graphs_gib"]) == (8.71, 10, 0.51)
    assert figures["init_s"] == 27.03
    assert (figures["attention"], figures["moe"]) == ("FLASH_ATTN_MLA", "MARLIN")


def test_log_gives_none_for_every_figure_when_the_engine_died():
    """A missing figure must not look like zero."""
    assert set(read_log("torch.AcceleratorError: CUDA error: out of memory").values()) == {None}
