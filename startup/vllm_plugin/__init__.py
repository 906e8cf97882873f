"""vLLM's load format `mayfly`: vLLM starts while its weights still arrive.

vLLM finds `register` by the entry point in metadata/ (group vllm.general_plugins): that folder
and the one above startup/ must be on PYTHONPATH. Then `--load-format mayfly` waits for shards and
hands them to the load format that MAYFLY_LOAD_FORMAT names.
"""


def register() -> None:
    """Called in each of vLLM's processes, more than once in some."""
    from vllm.model_executor import model_loader

    from startup.vllm_plugin import loader

    model_loader.register_model_loader("mayfly")(loader.ArrivingLoader)
