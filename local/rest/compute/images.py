"""images: the public ones, read only."""

from __future__ import annotations

import hashlib
from typing import Any

from local.rest.compute.images_data import IMAGES, Image, by_family, by_name
from local.rest.compute.links import link
from local.rest.compute.listing import listed
from local.rest.compute.service import method
from local.rest.errors import ApiError
from local.rest.service import Call

GUEST_FEATURES = [{"type": "UEFI_COMPATIBLE"}, {"type": "GVNIC"}]


@method("images.get")
def get(call: Call) -> dict[str, Any]:
    """An image by name."""
    return shown(_known(by_name(call["project"], call["image"]), call, call["image"]))


@method("images.getFromFamily")
def get_from_family(call: Call) -> dict[str, Any]:
    """The newest image of a family."""
    found = by_family(call["project"], call["family"])
    return shown(_known(found, call, "family/" + call["family"]))


@method("images.list")
def list_images(call: Call) -> dict[str, Any]:
    """A project's images."""
    images = [shown(i) for i in IMAGES if i.project == call["project"]]
    return listed(call, "compute#imageList", f"projects/{call['project']}/global/images", images)


def _known(image: Image | None, call: Call, name: str) -> Image:
    if image is None:
        path = f"projects/{call['project']}/global/images/{name}"
        raise ApiError(404, f"The resource '{path}' was not found")
    return image


def image_id(image: Image) -> str:
    """The image's numeric id, the same in every local cloud."""
    return str(10**18 + int(hashlib.sha256(image.name.encode()).hexdigest()[:15], 16))


def shown(image: Image) -> dict[str, Any]:
    """The REST resource."""
    path = f"projects/{image.project}/global/images/{image.name}"
    return {
        "kind": "compute#image",
        "id": image_id(image),
        "creationTimestamp": image.created,
        "name": image.name,
        "description": image.description,
        "sourceType": "RAW",
        "rawDisk": {"source": "", "containerType": "TAR"},
        "status": "READY",
        "archiveSizeBytes": "9876543210",
        "diskSizeGb": str(image.disk_gb),
        "family": image.family,
        "architecture": "X86_64",
        "enableConfidentialCompute": False,
        "licenses": [link("projects/" + image.licence)],
        "guestOsFeatures": [{"type": "VIRTIO_SCSI_MULTIQUEUE"}, *GUEST_FEATURES],
        "selfLink": link(path),
        "storageLocations": ["us"],
        "labelFingerprint": "42WmSpB8rSM=",
    }
