"""Where Google has room now, by the pattern that is in force and the cloud's own clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local.rest import pattern
from local.rest.compute.catalogue import MACHINE_TYPES, ZONES, offered, region_of
from local.rest.compute.links import last
from local.rest.compute.usage import Bound, exceeded
from local.rest.errors import ApiError
from local.rest.fault_catalogue import CATALOGUE
from local.rest.fault_kinds import OperationError, Scene
from local.rest.pattern import Pattern, Row
from local.rest.quota_limits import born, put
from local.rest.quotas import Quotas

if TYPE_CHECKING:
    from local.rest.world import World

Refusal = OperationError | ApiError


class Capacity:
    """One per world. Callers hold its lock. Without a pattern there is room everywhere."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.pattern = pattern.NOTHING
        self.began = world.clock()
        self._named = ""
        world.follow_settings(self._follow)

    def _follow(self) -> None:
        """The setting `capacity` names a pattern; where it changes, that one begins."""
        named = str(self.world.settings["capacity"])
        if named != self._named:
            self.play(pattern.load(named) if named else pattern.NOTHING)
            self._named = named

    def play(self, wanted: Pattern) -> None:
        """This pattern from now on, at minute 0; the quotas and faults of the last one go."""
        quotas, faults = self.world.of(Quotas), self.world.faults
        for order in self.pattern.faults:
            faults.lift(order.get("fault", ""), order.get("where") or {})
        self.began, quotas.limits = self.world.clock(), born()
        for quota_id, region, value in wanted.limits():
            put(quotas.limits, quota_id, region, value)
        for order in wanted.faults:
            faults.order(dict(order))
        self.pattern = wanted

    @property
    def minute(self) -> float:
        """Since the pattern began."""
        return (self.world.clock() - self.began) / 60

    def row(self, zone: str, machine: str, model: str) -> Row:
        return self.pattern.row(zone, machine, model, MACHINE_TYPES[machine].gpus)

    def has_room(self, zone: str, machine: str, model: str) -> bool:
        return self.row(zone, machine, model).has_room(self.minute)

    def row_of(self, instance: dict[str, Any]) -> Row:
        return self.row(*_place(instance))

    def fits(self, instance: dict[str, Any]) -> bool:
        """Whether there is room for it now."""
        return self.row_of(instance).has_room(self.minute)

    def stockout(self, instance: dict[str, Any]) -> Refusal | None:
        """Why there is no room for it now, as Google says it; None where there is."""
        if self.fits(instance):
            return None
        zone, machine, model = _place(instance)
        row = self.row(zone, machine, model)
        named = row.names
        if named is None:
            named = tuple(z for z in ZONES if self._is_hint(z, zone, machine, model))
        answer = row.answer
        if answer == "stockout-with-details" and not named:
            answer = "stockout-plain"
        gpu = MACHINE_TYPES[machine].accelerator or ""
        return self._said(answer, instance, {"zonesAvailable": ",".join(named), "gpu": gpu})

    def _is_hint(self, zone: str, asked: str, machine: str, model: str) -> bool:
        here = zone != asked and region_of(zone) == region_of(asked)
        return here and bool(offered(machine, zone)) and self.has_room(zone, machine, model)

    def over_quota(self, instance: dict[str, Any]) -> Refusal | None:
        """Which limit it breaks, as Google says it; None where it breaks none."""
        found = exceeded(self.world, instance)
        if found is None:
            return None
        bound, value = found
        return self._said(self.pattern.quota_answer, instance, _quota(bound, value))

    def _said(self, name: str, instance: dict[str, Any], options: dict[str, Any]) -> Refusal:
        zone, machine, _ = _place(instance)
        scene = Scene(self.world.project, zone, instance["name"], machine)
        built = CATALOGUE[name].build(scene, options)
        if not isinstance(built, OperationError | ApiError):
            raise TypeError(f"fault {name} builds no error")
        return built

    def reclaimed(self, instance: dict[str, Any]) -> bool:
        """Whether the room that this SPOT VM runs in has gone."""
        spot = instance["scheduling"]["provisioningModel"] == "SPOT"
        return spot and self.row_of(instance).reclaims and not self.fits(instance)

    def shown(self) -> dict[str, Any]:
        """For the control door."""
        found = self.pattern
        rows = [
            {
                "zone": row.zone,
                "machine": row.machine or "every type with GPUs",
                "model": row.model or "every model",
                "room": row.has_room(self.minute),
            }
            for row in found.rows
        ]
        said = {"name": found.name, "says": found.says, "source": found.source}
        return said | {"minute": round(self.minute, 2), "capacity": rows}


def shortage(world: World, instance: dict[str, Any]) -> Refusal | None:
    """Why this instance, which is made already, cannot run: quota first, then room."""
    capacity = world.of(Capacity)
    return capacity.over_quota(instance) or capacity.stockout(instance)


def _place(instance: dict[str, Any]) -> tuple[str, str, str]:
    model = instance["scheduling"]["provisioningModel"]
    return last(instance["zone"]), last(instance["machineType"]), model


def _quota(bound: Bound, value: int) -> dict[str, Any]:
    return {"metric": bound.metric, "limit": float(value), "gpu_family": bound.family}
