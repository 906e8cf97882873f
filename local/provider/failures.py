"""What went wrong while a resource was worked on, in the provider's own words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .client import ApiError, TransportError
from .operations import OperationError
from .values import Object


class FailedError(Exception):
    """The step went wrong; the text is the provider's own, before the engine's decoration."""


class PartFailedError(FailedError):
    """As FailedError, but something exists now: the engine keeps it, marked as failed."""

    def __init__(self, resource_id: str, state: Object, text: str) -> None:
        super().__init__(text)
        self.resource_id, self.state = resource_id, state


@contextmanager
def step(text: str) -> Iterator[None]:
    """Name the step that a failure belongs to."""
    try:
        yield
    except (ApiError, TransportError, OperationError) as error:
        raise FailedError(f"{text}: {error}") from error
