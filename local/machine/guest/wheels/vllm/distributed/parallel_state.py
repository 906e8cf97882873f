"""One process stands in for all ranks."""


def is_global_first_rank() -> bool:
    return True
