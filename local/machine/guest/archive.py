"""A small world of Debian packages: names, versions, needs; and real .deb files of them."""

import gzip
import hashlib
import io
import re
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

DRIVERS = {"570": "570.195.03", "580": "580.159.04"}
BRANCH = re.compile(r"-(\d{3})(?=-|$)")
FIRMWARE = re.compile(r"nvidia-firmware-(\d{3})-server-[\d.]+$")
_PAYLOAD_BYTES = 64 * 1024

# {b}: branch, {v}: version. All of them are in Ubuntu's `restricted`.
DRIVER_NEEDS = {
    "nvidia-headless-{b}-server-open": [
        "nvidia-headless-no-dkms-{b}-server-open",
        "nvidia-dkms-{b}-server-open",
    ],
    "nvidia-headless-no-dkms-{b}-server-open": [
        "libnvidia-cfg1-{b}-server",
        "libnvidia-compute-{b}-server",
        "nvidia-compute-utils-{b}-server",
        "nvidia-kernel-common-{b}-server",
        "nvidia-kernel-source-{b}-server-open",
    ],
    "nvidia-dkms-{b}-server-open": [
        "dkms",
        "nvidia-kernel-common-{b}-server",
        "nvidia-kernel-source-{b}-server-open",
    ],
    "nvidia-kernel-common-{b}-server": ["nvidia-firmware-{b}-server-{v}"],
    "nvidia-kernel-source-{b}-server-open": [],
    "nvidia-firmware-{b}-server-{v}": [],
    "nvidia-compute-utils-{b}-server": ["libnvidia-compute-{b}-server"],
    "nvidia-utils-{b}-server": ["libnvidia-compute-{b}-server"],
    "libnvidia-compute-{b}-server": ["libc6"],
    "libnvidia-cfg1-{b}-server": ["libc6"],
    "libnvidia-nscq-{b}": ["libc6"],
    "nvidia-fabricmanager-{b}": ["libc6"],
}
COMMON = {
    "dkms": ("2.8.7-2ubuntu2.2", ["gcc", "make"]),
    "gcc": ("4:11.2.0-1ubuntu1", ["libc6-dev"]),
    "make": ("4.3-4.1build1", ["libc6"]),
    "libc6-dev": ("2.35-0ubuntu3.11", ["libc6"]),
    "libc6": ("2.35-0ubuntu3.11", []),
    "curl": ("7.81.0-1ubuntu1.21", ["libc6"]),
    "jq": ("1.6-2.1ubuntu3", ["libc6"]),
    "tar": ("1.34+dfsg-1ubuntu0.1.22.04.2", ["libc6"]),
    "zstd": ("1.4.8+dfsg-3build1", ["libc6"]),
    "ubuntu-keyring": ("2021.03.26", []),
}
IMAGE = ("gcc", "make", "libc6-dev", "libc6", "curl", "tar")  # on every image


@dataclass
class Package:
    """One version of a package."""

    name: str
    version: str
    architecture: str = "amd64"
    needs: list[str] = field(default_factory=list)

    @property
    def file_name(self) -> str:
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"

    @property
    def stem(self) -> str:
        """Equal for the packages that replace each other: those that differ in branch only."""
        if FIRMWARE.match(self.name):
            return "nvidia-firmware"
        return BRANCH.sub("", self.name)

    @property
    def upstream(self) -> str:
        return self.version.rpartition(":")[2].split("-")[0]


def world(sources: str) -> dict[str, Package]:
    """Every package of the archives that `sources` (a sources.list's text) names."""
    packages = {
        name: Package(name, version, "amd64", needs) for name, (version, needs) in COMMON.items()
    }
    lines = [line for line in sources.splitlines() if line.startswith("deb ")]
    if any("ubuntu" in line and "restricted" in line for line in lines):
        packages |= drivers()
    return packages


def drivers() -> dict[str, Package]:
    """The NVIDIA packages of each branch."""
    found = {}
    for branch, version in DRIVERS.items():
        for template, needs in DRIVER_NEEDS.items():
            name = template.format(b=branch, v=version)
            filled = [need.format(b=branch, v=version) for need in needs]
            found[name] = Package(name, f"{version}-0ubuntu0.22.04.1", "amd64", filled)
    return found


def closure(names: list[str], known: dict[str, Package]) -> list[Package]:
    """`names` and all they need, each once. KeyError: a name that no archive has."""
    order: dict[str, Package] = {}
    todo = list(names)
    while todo:
        name = todo.pop(0)
        if name not in order:
            order[name] = known[name]
            todo += known[name].needs
    return list(order.values())


def build(package: Package, path: Path) -> None:
    """Write the .deb: an ar archive of control and data, the same bytes each time."""
    needs = f"Depends: {', '.join(package.needs)}\n" if package.needs else ""
    control = (
        f"Package: {package.name}\nVersion: {package.version}\n"
        f"Architecture: {package.architecture}\nMaintainer: Ubuntu <packages@example.invalid>\n"
        f"{needs}Description: {package.name}\n"
    )
    payload = hashlib.shake_256(package.file_name.encode()).digest(_PAYLOAD_BYTES)
    members = (
        ("debian-binary", b"2.0\n"),
        ("control.tar.gz", packed("./control", control.encode())),
        ("data.tar.gz", packed(f"./usr/share/doc/{package.name}/payload", payload)),
    )
    with path.open("wb") as file:
        file.write(b"!<arch>\n")
        for name, data in members:
            file.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode())
            file.write(data + b"\n" * (len(data) % 2))


def packed(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), 1, mtime=0)


def read(path: Path) -> Package:
    """The package that a .deb file holds. ValueError: it is not one."""
    members = dict(ar_members(path.read_bytes()))
    control = next((data for name, data in members.items() if name.startswith("control.tar")), None)
    if members.get("debian-binary") != b"2.0\n" or control is None:
        raise ValueError(f"{path} is not a Debian format archive")
    try:
        with tarfile.open(fileobj=io.BytesIO(control)) as tar:
            source = tar.extractfile("./control")
            assert source is not None
            text = source.read().decode()
    except (tarfile.TarError, EOFError, OSError, KeyError) as error:
        raise ValueError(f"{path}: corrupted control archive") from error
    fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    needs = [need.split()[0] for need in fields.get("Depends", "").split(",") if need.strip()]
    return Package(fields["Package"], fields["Version"], fields["Architecture"], needs)


def ar_members(data: bytes) -> list[tuple[str, bytes]]:
    """The members of an ar archive. ValueError: truncated, or no archive."""
    if not data.startswith(b"!<arch>\n"):
        raise ValueError("not an ar archive")
    found, at = [], 8
    while at + 60 <= len(data):
        name, size = data[at : at + 16].decode().strip().rstrip("/"), int(data[at + 48 : at + 58])
        body = data[at + 60 : at + 60 + size]
        if len(body) != size:
            raise ValueError("unexpected end of file")
        found.append((name, body))
        at += 60 + size + size % 2
    return found
