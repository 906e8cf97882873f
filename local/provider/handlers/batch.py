"""Calls that several resources share: the first to ask waits for the others, then one call serves
all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass
class _Group(Generic[Item]):
    items: list[Item] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None
    result: object = None


class Batch(Generic[Item]):
    """Groups by key. The one that opens a group runs it; the others get its result or its error."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, _Group[Item]] = {}
        self._turns: dict[str, threading.Lock] = {}

    def run(
        self,
        key: str,
        item: Item,
        gather: Callable[[], None],
        act: Callable[[list[Item]], object],
    ) -> object:
        """Add the item to the group of `key`; `gather` waits for more, `act` serves them all."""
        with self._lock:
            group = self._open.get(key)
            leader = group is None
            if group is None:
                group = self._open[key] = _Group()
            group.items.append(item)
            turn = self._turns.setdefault(key, threading.Lock())
        if not leader:
            group.done.wait()
        else:
            self._lead(key, group, turn, gather, act)
        if group.error is not None:
            raise group.error
        return group.result

    def _lead(
        self,
        key: str,
        group: _Group[Item],
        turn: threading.Lock,
        gather: Callable[[], None],
        act: Callable[[list[Item]], object],
    ) -> None:
        try:
            gather()
            with turn:
                with self._lock:
                    del self._open[key]
                group.result = act(group.items)
        except Exception as error:
            group.error = error
            with self._lock:
                if self._open.get(key) is group:
                    del self._open[key]
        finally:
            group.done.set()
