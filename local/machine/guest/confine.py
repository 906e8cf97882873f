"""A unit's own view of the file tree: what it may not write, and what it may not even see."""

import contextlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import kernel
from identity import Identity
from units import Unit

HOMES = ("/home", "/root", "/run/user")
TUNABLES = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/sys")
MODULES = ("/usr/lib/modules", "/lib/modules")
LOGS = ("/proc/kmsg", "/dev/kmsg")
NOTHING = Path("/run/systemd/inaccessible")
_NOBODY, _PASS = 0o000, 0o711


@dataclass
class View:
    """Which paths are whose, worked out once for each start."""

    writable: list[str] = field(default_factory=list)
    readable: list[str] = field(default_factory=list)
    private: list[Path] = field(default_factory=list)  # writable too, each behind a link


def is_confined(unit: Unit) -> bool:
    """Whether the unit sees a tree of its own."""
    return (
        any(unit.flag(key) for key in ("DynamicUser", "PrivateTmp", "PrivateMounts"))
        or unit.value("ProtectSystem", "no") != "no"
        or unit.value("ProtectHome", "no") != "no"
        or any(unit.flag(key) for key in ("ProtectKernelTunables", "ProtectKernelModules"))
        or any(unit.flag(key) for key in ("ProtectKernelLogs", "ProtectControlGroups"))
        or any(
            unit.values("Service", key)
            for key in ("ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths")
        )
    )


def confine(unit: Unit, identity: Identity, view: View) -> None:
    """DynamicUser=, ProtectSystem=, ... in a mount namespace of our own. Raises OSError."""
    kernel.unshare(kernel.CLONE_NEWNS)
    grants = [*view.writable, *(str(real) for real in view.private), "/dev", "/proc"]
    grants += [path.lstrip("-") for path in unit.words("Service", "ReadWritePaths")]
    if unit.flag("DynamicUser") or unit.flag("PrivateTmp"):
        for path in ("/tmp", "/var/tmp"):
            cover(path, 0o1777)
            grants.append(path)
    _show_private(view)
    _hide(unit, identity, {*view.writable, *view.readable, str(NOTHING)})
    _freeze(unit, grants)


def _show_private(view: View) -> None:
    """The unit's own among the private directories, and no other."""
    held = [(real, os.open(real, os.O_PATH)) for real in view.private]
    for folder in {real.parents[_depth(real)] for real in view.private}:
        cover(str(folder), 0o755)
    for real, handle in held:
        real.mkdir(parents=True)
        kernel.bind(f"/proc/self/fd/{handle}", str(real), read_only=False)
        os.close(handle)


def _depth(real: Path) -> int:
    return len(real.parts) - 2 - real.parts.index("private")


def _hide(unit: Unit, identity: Identity, own: set[str]) -> None:
    home = unit.value("ProtectHome", "no")
    for path in HOMES:
        if home in ("yes", "true", "tmpfs"):
            cover(path, 0o755 if home == "tmpfs" else _NOBODY)
        elif not identity.is_root and images_below(path):
            cover(path, _PASS)  # its interpreter lies there, on this host
    if identity.shared:
        for path in kept_by_root(own):
            _block(path)
    for flag, paths in (("ProtectKernelModules", MODULES), ("ProtectKernelLogs", LOGS)):
        for path in paths if unit.flag(flag) else ():
            _block(path)
    for word in unit.words("Service", "InaccessiblePaths"):
        if _is_there(word):
            _block(word.lstrip("-+"))


def _freeze(unit: Unit, grants: list[str]) -> None:
    how = unit.value("ProtectSystem", "no")
    if unit.flag("DynamicUser") or how == "strict":
        for path in grants:
            if Path(path).exists():
                kernel.bind(path, path, read_only=False)
        for point in mount_points():
            if not any(point == name or point.startswith(f"{name}/") for name in grants):
                with contextlib.suppress(OSError):  # those locked by the cradle are so already
                    kernel.freeze_alone(point)
    elif how in ("yes", "true", "full"):  # /usr is read-only as it is
        kernel.bind("/etc", "/etc")
    if unit.value("ProtectHome") == "read-only":
        for path in HOMES:
            if Path(path).exists():
                kernel.bind(path, path)
    for path in TUNABLES if unit.flag("ProtectKernelTunables") else ():
        if Path(path).exists():
            kernel.bind(path, path)
    for word in unit.words("Service", "ReadOnlyPaths"):
        if _is_there(word):
            kernel.bind(word.lstrip("-+"), word.lstrip("-+"))


def _is_there(word: str) -> bool:
    """Whether a path of the unit file exists; it must, unless it begins with a dash."""
    path = Path(word.lstrip("-+"))
    if not path.exists() and not word.startswith("-"):
        raise FileNotFoundError(2, f"Failed to set up mount namespacing: {path}: No such file")
    return path.exists()


def cover(path: str, mode: int) -> None:
    """An empty folder in place of `path`, but for what belongs to the image and lies below it.

    The host's environment and interpreter are mounted at their own paths, wherever those are.
    """
    if not Path(path).is_dir():
        return
    image = {point: os.open(point, os.O_PATH) for point in images_below(path)}
    mode = mode | 0o111 if image else mode
    kernel.mount("tmpfs", path, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, f"mode={mode:o}")
    for point, held in image.items():
        target = Path(point)
        if stat.S_ISDIR(os.fstat(held).st_mode):
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        kernel.bind(f"/proc/self/fd/{held}", point)
        os.close(held)


def images_below(path: str) -> list[str]:
    return [point for point in mount_points() if point.startswith(f"{path}/")]


def _block(path: str) -> None:
    """An empty folder or file that nobody but root may open, in its place."""
    for name, make in (("dir", Path.mkdir), ("reg", Path.touch)):
        if not (NOTHING / name).exists():
            NOTHING.mkdir(parents=True, exist_ok=True)
            make(NOTHING / name, 0o000)
    if Path(path).exists() and not Path(path).is_symlink():
        kernel.bind(str(NOTHING / ("dir" if Path(path).is_dir() else "reg")), path)


def kept_by_root(own: set[str]) -> list[str]:
    """What no other user could read or enter, but for the unit's own; not what lies below it."""
    found = []
    for top in ("/etc", "/home", "/mnt", "/opt", "/root", "/run", "/srv", "/var"):
        pending = [top]
        while pending:
            path = pending.pop()
            if path in own or (path != top and os.path.ismount(path)):
                continue
            mode = os.lstat(path).st_mode
            if stat.S_ISDIR(mode) and mode & 0o001:
                pending += [entry.path for entry in os.scandir(path)]
            elif not stat.S_ISLNK(mode) and not mode & (0o001 if stat.S_ISDIR(mode) else 0o004):
                found.append(path)
    return found


def mount_points() -> list[str]:
    """Every mount, the last of those stacked on one place."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return list(dict.fromkeys(line.split()[4] for line in lines))
