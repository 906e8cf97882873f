"""What one caller may do with objects, asked one permission at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from local.rest.access import decide
from local.rest.identity import Principal, permit
from local.rest.permissions import object_place

if TYPE_CHECKING:
    from local.rest.world import World

# Discovery method -> what it needs on the object (or, for a list, on the bucket) that the path
# names. An insert's name may be in its body, and what is there decides whether it replaces.
NEEDS: dict[str, tuple[str, ...]] = {
    "storage.objects.list": ("list",),
    "storage.objects.get": ("get",),
    "storage.objects.delete": ("delete",),
    "storage.objects.patch": ("get", "update"),
    "storage.objects.update": ("get", "update"),
    "storage.objects.rewrite": ("get",),
    "storage.objects.copy": ("get",),
    "storage.objects.compose": (),
    "storage.objects.insert": (),
}


@dataclass(frozen=True)
class Rights:
    """Of one caller; None is nobody."""

    world: World
    caller: Principal | None

    def need(self, verb: str, bucket: str, name: str = "") -> None:
        """403 in Google's words (401 for nobody) without storage.objects.<verb> there."""
        place = object_place(bucket, name)
        permit(self.world, self.caller, f"storage.objects.{verb}", place)

    def may_list(self, bucket: str) -> bool:
        with self.world.lock:
            place = object_place(bucket, "")
            return decide(self.world, self.caller, "storage.objects.list", place).held
