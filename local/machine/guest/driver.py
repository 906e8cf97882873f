"""The NVIDIA driver of this machine: what is installed, what is loaded, who uses it."""

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

INSTALLED = Path("/var/lib/machine/driver.json")  # {"version", "signed"}; absent: none
LOADED = Path("/run/machine/modules.json")  # {"version", "modules"}
SYSFS = Path("/sys/module")
BOOTED = Path("/run/machine/booted")
UNITS = Path("/var/lib/machine/units")
BIN = Path("/var/lib/machine/bin")
MODULES = ("nvidia", "nvidia_modeset", "nvidia_drm", "nvidia_uvm")
NEEDS = {"nvidia_modeset": "nvidia", "nvidia_uvm": "nvidia", "nvidia_drm": "nvidia_modeset"}
DAEMONS = ("nvidia-persistenced", "nvidia-fabricmanager")


def installed() -> dict[str, Any]:
    """The driver on disk, or {}."""
    return dict(json.loads(INSTALLED.read_text())) if INSTALLED.exists() else {}


def install(version: str, *, signed: bool) -> None:
    """Put a driver on disk with its tools and services; "" takes it away."""
    for folder in (UNITS, BIN):
        folder.mkdir(parents=True, exist_ok=True)
    if not version:
        INSTALLED.unlink(missing_ok=True)
        (BIN / "nvidia-smi").unlink(missing_ok=True)
        return
    INSTALLED.write_text(json.dumps({"version": version, "signed": signed}))
    if not (BIN / "nvidia-smi").is_symlink():
        (BIN / "nvidia-smi").symlink_to("/.machine/extra/nvidia-smi")
    install_daemon("nvidia-persistenced", version)


def install_daemon(name: str, version: str) -> None:
    """A service of the driver; `version` is the package's own."""
    UNITS.mkdir(parents=True, exist_ok=True)
    (UNITS / f"{name}.service").write_text(daemon_unit(name, version))


def daemon_unit(name: str, version: str) -> str:
    """Its unit. As the real ones fork only once they have found their driver, so a start fails."""
    command = f"/.machine/python -ESsB /.machine/lib/daemon.py {name} {version}"
    return (
        f"[Unit]\nDescription=NVIDIA {name.removeprefix('nvidia-')} daemon\n[Service]\n"
        f"Type=exec\nExecStartPre={command} --check\nExecStart={command}\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )


def loaded() -> dict[str, Any]:
    """{"version", "modules"} of the running kernel."""
    if LOADED.exists():
        return dict(json.loads(LOADED.read_text()))
    return {"version": "", "modules": []}


def store(version: str, modules: list[str]) -> None:
    LOADED.parent.mkdir(parents=True, exist_ok=True)
    LOADED.write_text(json.dumps({"version": version if modules else "", "modules": modules}))
    shutil.rmtree(SYSFS, ignore_errors=True)
    for module in modules:
        (SYSFS / module).mkdir(parents=True)
        (SYSFS / module / "version").write_text(f"{version}\n")


def load(module: str, config: dict[str, Any]) -> str:
    """Load a module with what it needs; "" or the reason why not, as modprobe says it."""
    on_disk, now = installed(), loaded()
    if module not in MODULES or not on_disk:
        return f"modprobe: FATAL: Module {module} not found in directory /lib/modules/{release()}"
    if module in now["modules"]:
        return ""
    if not config["gpu_count"]:
        return f"modprobe: ERROR: could not insert '{module}': No such device"
    if config["secure_boot"] and not on_disk["signed"]:
        return f"modprobe: ERROR: could not insert '{module}': Key was rejected by service"
    if module in NEEDS and (problem := load(NEEDS[module], config)):
        return problem
    now = loaded()
    if now["modules"] and now["version"] != on_disk["version"]:
        return f"modprobe: ERROR: could not insert '{module}': Invalid argument"
    store(on_disk["version"], [*now["modules"], module])
    return ""


def unload(module: str, config: dict[str, Any]) -> str:
    """Unload a module that nothing uses; "" or the reason why not."""
    now = loaded()
    if module not in now["modules"]:
        return ""
    if any(NEEDS.get(other) == module for other in now["modules"]) or in_use(config):
        return f"modprobe: FATAL: Module {module} is in use."
    store(now["version"], [other for other in now["modules"] if other != module])
    return ""


def in_use(config: dict[str, Any]) -> bool:
    """Whether a daemon or an engine holds the GPUs, or a setting says that something does."""
    if config["settings"]["driver_busy"] == "true":
        return True
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(word.endswith((b"/bin/vllm", b"/.machine/lib/daemon.py")) for word in words):
                return True
    return False


def load_at_boot(config: dict[str, Any]) -> None:
    """What the kernel does by itself, from the initramfs where that has a module of its own."""
    BOOTED.parent.mkdir(parents=True, exist_ok=True)
    BOOTED.write_text(str(time.time()))
    store("", [])
    if config["settings"]["initramfs_driver"] and config["gpu_count"]:
        store(config["settings"]["initramfs_driver"], list(MODULES))
    for module in MODULES:
        load(module, config)


def release() -> str:
    return subprocess.run(
        ["uname", "-r"], capture_output=True, text=True, check=True
    ).stdout.strip()
