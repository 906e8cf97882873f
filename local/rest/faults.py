"""Faults on request: what will go wrong, for which calls, how often."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from local.rest.fault_catalogue import CATALOGUE
from local.rest.fault_kinds import Recipe

FOR_EVER = -1


class FaultError(ValueError):
    """A fault that does not exist or a wrong part of one."""


@dataclass
class Fault:
    """One order. left: how many calls it still hits; FOR_EVER = all.

    where: path variables or top-level body fields that must have these values, e.g. the zone.
    every: 2 hits the second such call, the fourth, ...; 1 hits them all.
    """

    name: str
    recipe: Recipe
    method: str
    left: int
    where: dict[str, str]
    options: dict[str, Any] = field(default_factory=dict)
    every: int = 1
    met: int = 0

    def hits(self, method_id: str, params: Mapping[str, str], body: Any) -> bool:
        """Whether this order is for that call."""
        fields = {**(body if isinstance(body, dict) else {}), **params}
        return (
            self.left != 0
            and fnmatchcase(method_id, self.method)
            and all(str(fields.get(k)) == v for k, v in self.where.items())
        )

    def shown(self) -> dict[str, Any]:
        return {
            "fault": self.name,
            "method": self.method,
            "left": self.left if self.left != FOR_EVER else "for ever",
            "where": self.where,
            "with": self.options,
            "every": self.every,
        }


class Faults:
    """The orders, oldest first. One call meets one fault at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: list[Fault] = []

    def order(self, raw: Any) -> dict[str, Any]:
        """Take `{"fault", "method"?, "times"?, "where"?, "with"?, "every"?}`.

        times: 1 unless told; 0 or null = for ever. FaultError says what is wrong.
        """
        words = {"fault", "method", "times", "where", "with", "every"}
        if not isinstance(raw, dict) or set(raw) - words:
            raise FaultError("a fault is {fault, method?, times?, where?, with?, every?}")
        recipe = CATALOGUE.get(raw.get("fault", ""))
        if recipe is None:
            raise FaultError(f"no fault {raw.get('fault')!r}; there are {', '.join(CATALOGUE)}")
        times = raw.get("times", 1) or FOR_EVER
        if not isinstance(times, int) or times < FOR_EVER:
            raise FaultError(f"times is {times!r}, not a whole number of 0 or more")
        every = raw.get("every", 1)
        if not isinstance(every, int) or every < 1:
            raise FaultError(f"every is {every!r}, not a whole number of 1 or more")
        options = dict(raw.get("with") or {})
        if strange := set(options) - set(recipe.options):
            raise FaultError(f"{raw['fault']} knows no {', '.join(sorted(strange))}")
        fault = Fault(
            raw["fault"],
            recipe,
            raw.get("method") or recipe.method,
            times,
            {k: str(v) for k, v in (raw.get("where") or {}).items()},
            {**recipe.options, **options},
            every,
        )
        with self._lock:
            self._orders.append(fault)
        return fault.shown()

    def lift(self, name: str, where: Mapping[str, Any]) -> None:
        """Take back the orders of this name for this place; others' stay."""
        wanted = {k: str(v) for k, v in where.items()}
        with self._lock:
            self._orders = [f for f in self._orders if (f.name, f.where) != (name, wanted)]

    def clear(self) -> None:
        with self._lock:
            self._orders.clear()

    def shown(self) -> list[dict[str, Any]]:
        with self._lock:
            return [f.shown() for f in self._orders if f.left]

    def take(self, method_id: str, params: Mapping[str, str], body: Any) -> Fault | None:
        """The first order that hits this call, counted down."""
        with self._lock:
            for fault in self._orders:
                if fault.hits(method_id, params, body):
                    fault.met += 1
                    if fault.met % fault.every:
                        continue
                    if fault.left != FOR_EVER:
                        fault.left -= 1
                    return fault
        return None
