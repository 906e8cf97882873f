"""Stands in for vLLM 0.24.0: the same command line, the same HTTP, no GPU."""

__version__ = "0.24.0"
