"""Public images that exist here. A dated name belongs to one family; the newest is the family's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Image:
    """One public image. disk_gb: the smallest boot disk that holds it."""

    project: str
    name: str
    family: str
    licence: str
    disk_gb: int
    description: str
    created: str


_ACCELERATED = "ubuntu-os-accelerator-images"
_LEARNING = "deeplearning-platform-release"


def _accelerated(release: str, driver: str, date: str) -> Image:
    family = f"ubuntu-accelerator-{release}-amd64-with-nvidia-{driver}"
    return Image(
        _ACCELERATED,
        f"{family}-v{date}",
        family,
        f"ubuntu-os-cloud/global/licenses/ubuntu-{release}-lts",
        20,
        f"Canonical, Ubuntu {release[:2]}.{release[2:]} LTS with NVIDIA {driver}",
        f"{date[:4]}-{date[4:6]}-{date[6:]}T10:00:00.000-08:00",
    )


IMAGES: tuple[Image, ...] = (
    *(
        _accelerated(release, driver, date)
        for release in ("2204", "2404")
        for driver in ("570", "580")
        for date in ("20261015", "20261110")
    ),
    Image(
        _LEARNING,
        "pytorch-2-7-cu128-ubuntu-2204-nvidia-570-v20260129",
        "pytorch-2-7-cu128-ubuntu-2204-nvidia-570",
        "ubuntu-os-cloud/global/licenses/ubuntu-2204-lts",
        50,
        "Google, Deep Learning VM, PyTorch 2.7, CUDA 12.8, NVIDIA 570",
        "2026-01-29T10:00:00.000-08:00",
    ),
    Image(
        "debian-cloud",
        "debian-12-bookworm-v20261105",
        "debian-12",
        "debian-cloud/global/licenses/debian-12-bookworm",
        10,
        "Debian, Debian GNU/Linux, 12 (bookworm), amd64",
        "2026-11-05T10:00:00.000-08:00",
    ),
    Image(
        "debian-cloud",
        "debian-13-trixie-v20261105",
        "debian-13",
        "debian-cloud/global/licenses/debian-13-trixie",
        10,
        "Debian, Debian GNU/Linux, 13 (trixie), amd64",
        "2026-11-05T10:00:00.000-08:00",
    ),
    Image(
        "ubuntu-os-cloud",
        "ubuntu-2204-jammy-v20261106",
        "ubuntu-2204-lts",
        "ubuntu-os-cloud/global/licenses/ubuntu-2204-lts",
        10,
        "Canonical, Ubuntu, 22.04 LTS, amd64 jammy image",
        "2026-11-06T10:00:00.000-08:00",
    ),
    Image(
        "ubuntu-os-cloud",
        "ubuntu-2404-noble-amd64-v20261106",
        "ubuntu-2404-lts-amd64",
        "ubuntu-os-cloud/global/licenses/ubuntu-2404-lts",
        10,
        "Canonical, Ubuntu, 24.04 LTS, amd64 noble image",
        "2026-11-06T10:00:00.000-08:00",
    ),
)
PUBLIC_PROJECTS = {image.project for image in IMAGES}


def by_name(project: str, name: str) -> Image | None:
    return next((i for i in IMAGES if (i.project, i.name) == (project, name)), None)


def by_family(project: str, family: str) -> Image | None:
    """The newest image of the family."""
    members = [i for i in IMAGES if (i.project, i.family) == (project, family)]
    return max(members, key=lambda i: i.created, default=None)


def find(path: str) -> Image | None:
    """The image that `projects/P/global/images/[family/]N` names."""
    match path.split("/"):
        case ["projects", project, "global", "images", "family", family]:
            return by_family(project, family)
        case ["projects", project, "global", "images", name]:
            return by_name(project, name)
    return None
