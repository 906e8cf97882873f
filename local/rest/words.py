"""Lists of words, written as people write them."""


def words(text: str) -> tuple[str, ...]:
    """The words of `text`."""
    return tuple(text.split())
