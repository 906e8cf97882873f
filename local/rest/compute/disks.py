"""disks."""

from __future__ import annotations

from typing import Any

from local.rest.compute.catalogue import DISK_TYPES
from local.rest.compute.images import GUEST_FEATURES, image_id
from local.rest.compute.images_data import Image, find
from local.rest.compute.labels import check_labels, give_labels, wanted_labels
from local.rest.compute.links import last, link, path_of
from local.rest.compute.listing import aggregated, listed
from local.rest.compute.operations import Operations, at_once
from local.rest.compute.service import method, place
from local.rest.compute.store import Store, in_use
from local.rest.errors import ApiError
from local.rest.fault_kinds import OperationError
from local.rest.service import Call

BLANK_GB = 500
LARGEST_GB = 65_536


def resolve_image(value: str, project: str, field: str) -> Image:
    """The image that a request names, by name or family."""
    path = path_of(value, project, "global/images")
    image = find(path)
    if image is None:
        raise ApiError(
            400,
            f"Invalid value for field '{field}': '{value}'. The referenced image resource "
            "cannot be found.",
            reason="invalid",
        )
    return image


def disk_type(value: str, where: str, store: Store, field: str) -> str:
    """The link of a disk type, or Google's 400 for an unknown one."""
    name = last(value)
    if name not in DISK_TYPES:
        raise ApiError(
            400,
            f"Invalid value for field '{field}': '{value}'. The referenced diskType resource "
            "cannot be found.",
            reason="invalid",
        )
    return link(store.path(where, "diskTypes", name))


def check_size(size_gb: int, image: Image | None, field: str) -> None:
    """Refuse a disk that is too large, or too small for its image."""
    if not 1 <= size_gb <= LARGEST_GB:
        raise ApiError(
            400,
            f"Invalid value for field '{field}': '{size_gb}'. Disk size must be between 1 and "
            f"{LARGEST_GB} GB.",
            reason="invalid",
        )
    if image and size_gb < image.disk_gb:
        raise ApiError(
            400,
            f"Invalid value for field '{field}': '{size_gb}'. Requested disk size cannot be "
            f"smaller than the image size ({image.disk_gb} GB)",
            reason="invalid",
        )


def disk_fields(name: str, size_gb: int, kind: str, image: Image | None) -> dict[str, Any]:
    """What a new disk holds; kind: the disk type's link."""
    fields: dict[str, Any] = {
        "name": name,
        "sizeGb": str(size_gb),
        "type": kind,
        "status": "READY",
        "physicalBlockSizeBytes": "4096",
    }
    if image:
        fields |= {
            "sourceImage": link(f"projects/{image.project}/global/images/{image.name}"),
            "sourceImageId": image_id(image),
            "licenses": [link("projects/" + image.licence)],
            "architecture": "X86_64",
            "guestOsFeatures": [dict(f) for f in GUEST_FEATURES],
        }
    return fields


@method("disks.insert")
def insert(call: Call) -> dict[str, Any]:
    """A blank disk or one made from an image."""
    store, body, where = call.world.of(Store), call.body, place(call)
    given = body.get("sourceImage") or call.query.get("sourceImage")
    image = resolve_image(given, call.world.project, "resource.sourceImage") if given else None
    size_gb = int(body.get("sizeGb") or (image.disk_gb if image else BLANK_GB))
    check_size(size_gb, image, "resource.sizeGb")
    check_labels(body.get("labels", {}))
    kind = disk_type(body.get("type", "pd-standard"), where, store, "resource.type")
    fields = body | disk_fields(body["name"], size_gb, kind, image)
    fields.pop("labels", None)
    disk = store.new(where, "disks", fields)
    give_labels(disk, body.get("labels", {}))
    return at_once(call, "insert", disk)


def _disk(call: Call, name: str = "disk") -> dict[str, Any]:
    store = call.world.of(Store)
    return store.get(store.path(place(call), "disks", call[name]))


@method("disks.get")
def get(call: Call) -> dict[str, Any]:
    """A disk."""
    return _disk(call)


@method("disks.list")
def list_disks(call: Call) -> dict[str, Any]:
    """A zone's disks."""
    found = call.world.of(Store).all("disks", place(call))
    path = f"projects/{call.world.project}/{place(call)}/disks"
    return listed(call, "compute#diskList", path, found)


@method("disks.aggregatedList")
def aggregated_list(call: Call) -> dict[str, Any]:
    """All disks by zone."""
    found = call.world.of(Store).all("disks")
    return aggregated(call, "compute#diskAggregatedList", "disks", found)


@method("disks.setLabels")
def label(call: Call) -> dict[str, Any]:
    """Replace a disk's labels."""
    disk = _disk(call, "resource")
    labels = wanted_labels(call, disk)
    return at_once(call, "setLabels", disk, lambda: give_labels(disk, labels))


@method("disks.resize")
def resize(call: Call) -> dict[str, Any]:
    """Make a disk larger; a smaller size fails in the operation."""
    store, disk = call.world.of(Store), _disk(call)
    wanted, size_gb = int(call.body.get("sizeGb", 0)), int(disk["sizeGb"])
    operations = call.world.of(Operations)
    operation = operations.begin(call, "resize", disk)
    if wanted < size_gb and operation.error is None:
        text = (
            f"Invalid value for field 'sizeGb': '{wanted}'. New disk size '{wanted}' GiB must be "
            f"larger than existing size '{size_gb}' GiB."
        )
        entry = {"code": "INVALID_FIELD_VALUE", "message": text}
        operation.error = OperationError(400, "BAD REQUEST", entry)
    if operation.error is None:
        disk["sizeGb"] = str(wanted)
        _tell_users(store, disk)
    operations.finish(operation)
    return operations.shown(operation)


def _tell_users(store: Store, disk: dict[str, Any]) -> None:
    for instance in store.all("instances"):
        for attached in instance["disks"]:
            if attached.get("source") == disk["selfLink"]:
                attached["diskSizeGb"] = disk["sizeGb"]


@method("disks.delete")
def delete(call: Call) -> dict[str, Any]:
    """A disk that no instance uses."""
    store, disk = call.world.of(Store), _disk(call)
    for user in disk.get("users", []):
        holder = store.find(path_of(user, call.world.project, "instances"))
        if holder:
            raise in_use(disk, holder)
    return at_once(call, "delete", disk, lambda: store.remove(disk))
