"""Faults on request: what will go wrong, for which calls, how often."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from local.rest.fault_catalogue import CATALOGUE, Recipe

FOR_EVER = -1


class FaultError(ValueError):
    """A fault that does not exist or a wrong part of one."""


@dataclass
class Fault:
    """One order. left: how many calls it still hits; FOR_EVER = all.

    where: path variables or top-level body fields that must have these values, e.g. the zone.
    """

    name: str
    recipe: Recipe
    method: str
    left: int
    where: dict[str, str]
    options: dict[str, Any] = field(default_factory=dict)

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
        }


class Faults:
    """The orders, oldest first. One call meets one fault at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: list[Fault] = []

    def order(self, raw: Any) -> dict[str, Any]:
        """Take `{"fault", "method"?, "times"?, "where"?, "with"?}`.

        times: 1 unless told; 0 or null = for ever. FaultError says what is wrong.
        """
        if not isinstance(raw, dict) or set(raw) - {"fault", "method", "times", "where", "with"}:
            raise FaultError("a fault is {fault, method?, times?, where?, with?}")
        recipe = CATALOGUE.get(raw.get("fault", ""))
        if recipe is None:
            raise FaultError(f"no fault {raw.get('fault')!r}; there are {', '.join(CATALOGUE)}")
        times = raw.get("times", 1) or FOR_EVER
        if not isinstance(times, int) or times < FOR_EVER:
            raise FaultError(f"times is {times!r}, not a whole number of 0 or more")
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
        )
        with self._lock:
            self._orders.append(fault)
        return fault.shown()

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
                    if fault.left != FOR_EVER:
                        fault.left -= 1
                    return fault
        return None
