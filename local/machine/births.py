"""What a machine is born with: identity, image files, driver, GIB, GPUs."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local.machine import gib, openssh, rootfs
from local.machine.guest import driver as guest_driver

if TYPE_CHECKING:
    from local.machine.image import Image

DEFAULTS = {
    "driver": "580.159.04",
    "gib": "false",
    "driver_busy": "false",
    "initramfs_driver": "",
    "fabricmanager": "same",
    "kernel_headers": "true",
    "apt_lock_s": "0",
    "apt_fails": "0",
    "dpkg_interrupted": "false",
    "vllm_tokens_per_s": "120",
    "vllm_load_s": "1",
    "vllm_garbage_past": "0",
}


@dataclass(frozen=True)
class Birth:
    """Files of a new disk, by path."""

    files: dict[str, str | bytes]
    links: dict[str, str]


def setting(settings: Mapping[str, Any], name: str) -> str:
    """A setting as text, booleans as true and false."""
    return str(settings.get(name, DEFAULTS[name])).lower()


def basename(link: str) -> str:
    return link.rsplit("/", 1)[-1]


def has_internet(instance: Mapping[str, Any]) -> bool:
    """An external IP is the only way out: there is no NAT."""
    nics = instance.get("networkInterfaces", [])
    return any(nic.get("accessConfigs") for nic in nics)


def gpus(instance: Mapping[str, Any]) -> tuple[str, int]:
    """(model as nvidia-smi calls it, count) of the machine type."""
    machine = basename(str(instance["machineType"]))
    for prefix, model in GPU_MODELS.items():
        if machine.startswith(prefix):
            return model, int(machine.rsplit("-", 1)[1].removesuffix("g"))
    return "", 0


GPU_MODELS = {
    "a2-highgpu-": "NVIDIA A100-SXM4-40GB",
    "a2-ultragpu-": "NVIDIA A100-SXM4-80GB",
    "a3-highgpu-": "NVIDIA H100 80GB HBM3",
    "a3-megagpu-": "NVIDIA H100 80GB HBM3",
    "a3-ultragpu-": "NVIDIA H200",
}


def internal_ip(instance: Mapping[str, Any]) -> str:
    nics = instance.get("networkInterfaces") or [{}]
    return str(nics[0].get("networkIP") or "10.128.0.2")


def network(instance: Mapping[str, Any]) -> str:
    nics = instance.get("networkInterfaces") or [{}]
    return basename(str(nics[0].get("network", "")))


def environment(image: "Image", instance: Mapping[str, Any]) -> dict[str, str]:
    """What every service of the image has, the startup script's among them."""
    variables = {"PATH": rootfs.PATH, "LANG": "C.UTF-8", **image.environment}
    if has_internet(instance):
        variables |= image.internet_environment
    return variables


def config(
    image: "Image", instance: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """What the machinery inside is told at each boot."""
    model, count = gpus(instance)
    ports = [*image.ports, *(image.internet_ports if has_internet(instance) else ())]
    return {
        "hostname": instance["name"],
        "internal_ip": internal_ip(instance),
        "internet": has_internet(instance),
        "ports": sorted({int(port) for port in ports}),
        "environment": environment(image, instance),
        "gpu_model": model,
        "gpu_count": count,
        "secure_boot": bool(
            instance.get("shieldedInstanceConfig", {}).get("enableSecureBoot", False)
        ),
        "settings": {name: setting(settings, name) for name in DEFAULTS},
        "site_packages": str(next(rootfs.environment_tree().glob("lib/python*/site-packages"))),
        "gsutil": str(image.gsutil or ""),
    }


def birth(image: "Image", instance: Mapping[str, Any], settings: Mapping[str, Any]) -> Birth:
    """The files that make a disk this image's."""
    files: dict[str, str | bytes] = {**base_files(instance), **boto_file(image)}
    files |= openssh.files(image.ssh, environment(image, instance))
    links: dict[str, str] = {}
    if gpus(instance)[1]:
        born, links = driver(settings, release(instance)[1])
        files |= born
        if setting(settings, "dpkg_interrupted") == "true":
            files["/var/lib/dpkg/updates/0001"] = ""
        extra = gib.files(setting(settings, "gib"))
        if own := extra.pop("/etc/environment", ""):
            files["/etc/environment"] = f"{files['/etc/environment']}{own!s}"
        files |= extra
    return Birth(files, links)


def driver(
    settings: Mapping[str, Any], ubuntu: str
) -> tuple[dict[str, str | bytes], dict[str, str]]:
    """The image's driver: packages, tool, services; and a fabric manager, of its version or not."""
    version, manager = setting(settings, "driver"), setting(settings, "fabricmanager")
    manager = version if manager == "same" else manager
    files: dict[str, str | bytes] = {}
    links, names, services = {}, {}, {}
    if version != "none":
        names = {name.format(b=branch(version), v=version): version for name in DRIVER_PACKAGES}
        services["nvidia-persistenced"] = version
        links["/var/lib/machine/bin/nvidia-smi"] = "/.machine/extra/nvidia-smi"
        files[DRIVER] = json.dumps({"version": version, "signed": True})
    if manager != "none":
        names[f"nvidia-fabricmanager-{branch(manager)}"] = manager
        services["nvidia-fabricmanager"] = manager
    packages = {
        name: {"version": f"{own}-0ubuntu0.{ubuntu}.1", "architecture": "amd64", "held": False}
        for name, own in names.items()
    }
    files["/var/lib/machine/packages.json"] = json.dumps(packages)
    for name, own in services.items():
        files[f"/var/lib/machine/units/{name}.service"] = guest_driver.daemon_unit(name, own)
    return files, links


DRIVER = "/var/lib/machine/driver.json"


def branch(version: str) -> str:
    return version.split(".")[0]


DRIVER_PACKAGES = (
    "nvidia-headless-{b}-server-open",
    "nvidia-headless-no-dkms-{b}-server-open",
    "nvidia-dkms-{b}-server-open",
    "nvidia-kernel-source-{b}-server-open",
    "nvidia-kernel-common-{b}-server",
    "nvidia-firmware-{b}-server-{v}",
    "nvidia-compute-utils-{b}-server",
    "nvidia-utils-{b}-server",
    "libnvidia-compute-{b}-server",
    "libnvidia-cfg1-{b}-server",
    "libnvidia-nscq-{b}",
)


RELEASES = {
    "2404": ("ubuntu", "24.04", "noble"),
    "noble": ("ubuntu", "24.04", "noble"),
    "debian-12": ("debian", "12", "bookworm"),
    "debian-13": ("debian", "13", "trixie"),
}


def release(instance: Mapping[str, Any]) -> tuple[str, str, str]:
    """(distribution, release, code name) of the boot image."""
    for disk in instance.get("disks", []):
        source = str(disk.get("initializeParams", {}).get("sourceImage", ""))
        for mark, found in RELEASES.items():
            if mark in source:
                return found
    return "ubuntu", "22.04", "jammy"


def base_files(instance: Mapping[str, Any]) -> dict[str, str]:
    """/etc as the image has it, as far as anything looks."""
    distribution, number, codename = release(instance)
    title = distribution.capitalize()
    name = instance["name"]
    return {
        "/etc/os-release": (
            f'PRETTY_NAME="{title} {number}"\nNAME="{title}"\nVERSION_ID="{number}"\n'
            f"VERSION_CODENAME={codename}\nID={distribution}\n"
        ),
        "/etc/hostname": f"{name}\n",
        "/etc/hosts": (
            "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
            f"{internal_ip(instance)} {name}\n"
            "169.254.169.254 metadata.google.internal metadata\n"
        ),
        "/etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files\n",
        "/etc/resolv.conf": "nameserver 169.254.169.254\n",
        "/etc/passwd": (
            "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:"
            "/usr/sbin/nologin\nsshd:x:105:65534::/run/sshd:/usr/sbin/nologin\n"
        ),
        "/etc/group": "root:x:0:\nnogroup:x:65534:\n",
        "/etc/shadow": "root:*:19000:0:99999:7:::\n",
        "/etc/machine-id": secrets.token_hex(16) + "\n",
        "/etc/environment": f'PATH="{rootfs.PATH}"\n',
        "/etc/profile": (
            'for file in /etc/profile.d/*.sh; do [ -r "$file" ] && . "$file"; done\nunset file\n'
        ),
        "/etc/fstab": "LABEL=cloudimg-rootfs / ext4 discard,commit=30,errors=remount-ro 0 1\n",
    }


def boto_file(image: "Image") -> dict[str, str]:
    """gsutil's configuration: the machine's own service account, the storage API's address."""
    if not image.storage_port:
        return {}
    return {
        "/etc/boto.cfg": (
            "[Credentials]\n"
            f"gs_json_host = 127.0.0.1\ngs_json_port = {image.storage_port}\n"
            "[Boto]\nhttps_validate_certificates = False\n"
            f"[GSUtil]\ndefault_project_id = {image.project_number}\ndefault_api_version = 2\n"
            "prefer_api = json\ncheck_hashes = always\n"
            "[GoogleCompute]\nservice_account = default\n"
        )
    }


def gsutil_trees(gsutil: Path | None) -> list[Path]:
    """What has to be shown for that script to run: the folder that holds it, or its environment."""
    if gsutil is None:
        return []
    script = gsutil.resolve()
    environment = script.parent.parent
    return [environment if (environment / "pyvenv.cfg").exists() else script.parent]
