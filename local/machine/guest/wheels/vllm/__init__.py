"""Stands in for vLLM 0.24.0: the same command line, the same HTTP, the same LLM class; no GPU."""

from typing import Any

__version__ = "0.24.0"


def __getattr__(name: str) -> Any:
    """As in vLLM: what a program may use is imported when it does."""
    if name not in ("LLM", "SamplingParams"):
        raise AttributeError(f"module 'vllm' has no attribute {name!r}")
    from vllm import offline

    return getattr(offline, name)
