"""The local cloud's own patterns of capacity (local/patterns), as worlds for bench/ladder.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from bench.ladder_world import operation
from mayfly import names, quota
from mayfly.ladder.rungs import Place
from mayfly.machines import MACHINES

FOLDER = Path(__file__).resolve().parent.parent / "local/patterns"


@dataclass(frozen=True)
class Played:
    """One pattern; places: what the walk may ask for."""

    name: str
    raw: Mapping[str, Any]
    places: tuple[Place, ...] = ()

    @property
    def models_differ(self) -> bool:
        return any("model" in row for row in self.raw.get("capacity") or ())

    def over(self, places: tuple[Place, ...]) -> Played:
        """The same, for a walk over these."""
        return replace(self, places=places)

    @property
    def says(self) -> str:
        return str(self.raw["says"])

    def has_room(self, place: Place, minute: float) -> bool:
        turns = self._row(place).get("room", "always")
        if isinstance(turns, str):
            return turns == "always"
        return any(begin <= minute < (minute + 1 if end is None else end) for begin, end in turns)

    def ask(self, place: Place, minute: float) -> dict[str, Any] | None:
        """What the insert's operation says; None: the VM is there."""
        short = self._short(place)
        if short:
            return operation("QUOTA_EXCEEDED", short, {})
        if self.has_room(place, minute):
            return None
        if self._row(place).get("answer") == "stockout-region":
            return operation("REGION_RESOURCE_POOL_EXHAUSTED", "no room", {})
        named = ",".join(self._named(place, minute))
        code = "ZONE_RESOURCE_POOL_EXHAUSTED" + ("_WITH_DETAILS" if named else "")
        return operation(code, "no room", {"zonesAvailable": named} if named else {})

    def advice(self, place: Place) -> float | None:
        """Nobody gives any on these."""
        return None

    def _row(self, place: Place) -> Mapping[str, Any]:
        """The first that is about the place, as the local cloud reads it."""
        model = names.PROVISIONING[place.provisioning]
        for row in self.raw.get("capacity") or ():
            wanted = (row.get("zone", "*"), row.get("machine", "*"), row.get("model", "*"))
            given = (place.zone, place.machine, model)
            if all(fnmatchcase(g, w) for g, w in zip(given, wanted, strict=True)):
                found: Mapping[str, Any] = row
                return found
        return {}

    def _short(self, place: Place) -> str:
        """The limit that is too low there, in Google's words; "" where none is."""
        limits, gpus = self.raw.get("quotas") or {}, MACHINES[place.machine].gpus
        own, _ = quota.gpu_quota(MACHINES[place.machine], place.provisioning)
        for quota_id, where in ((own, f"in region {place.region}."), (quota.ALL_GPUS, "globally.")):
            value = limits.get(quota_id, gpus)
            value = value.get(place.region, gpus) if isinstance(value, dict) else value
            if value != quota.UNLIMITED and value < gpus:
                metric = quota_id.partition("-per-")[0].replace("-", "_")
                return f"Quota '{metric}' exceeded.  Limit: {value:.1f} {where}"
        return ""

    def _named(self, place: Place, minute: float) -> list[str]:
        written = self._row(place).get("names")
        if written is not None:
            return list(written)
        return [
            other.zone
            for other in self.places
            if (other.machine, other.provisioning) == (place.machine, place.provisioning)
            and other.region == place.region
            and self.has_room(other, minute)
        ]


def played() -> list[Played]:
    """Every pattern that is about room and quota alone: a walk in minutes knows no faults."""
    found = []
    for path in sorted(FOLDER.glob("*.yaml")):
        raw = yaml.safe_load(path.read_text())
        if not raw.get("faults") and not any(r.get("reclaims") for r in raw.get("capacity") or ()):
            found.append(Played(path.stem, raw))
    return found
