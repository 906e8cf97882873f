"""What a machine's file tree is made of: its own disk, and read-only looks at the host.

A machine's directory holds `disk/` (its root, kept over reboots), `usr-local/` (its /usr/local),
`machinery/` (what makes it work: read-only inside, at /.machine) and `state/` (what it tells us).
"""

import json
import os
import shutil
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GUEST = Path(__file__).resolve().parent / "guest"
KERNEL = Path(__file__).resolve().parent / "kernel.py"
SYSTEM_DIRECTORIES = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
READ_ONLY_ETC = ("ssl", "alternatives")
COPIED_ETC = ("ld.so.conf", "ld.so.conf.d", "ld.so.cache", "services", "protocols", "mime.types")
OWN_DIRECTORIES = (
    *("boot", "dev", "home", "media", "mnt", "opt", "proc", "root", "run", "srv", "sys", "tmp"),
    *("usr", ".machine", "etc/systemd/system", "etc/profile.d", "etc/default", "etc/modprobe.d"),
    *("etc/apt/sources.list.d", "etc/ssl", "etc/alternatives", "var/lib/dpkg"),
    *("var/lib/apt/lists", "var/cache/apt/archives", "var/log", "var/spool", "var/tmp"),
)
PATH = (
    "/.machine/bin:/var/lib/machine/bin:"
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)
PYTHON = "/.machine/python"
STUB = f"""#!{PYTHON} -ESsB
import sys

sys.path.insert(0, "/.machine/lib")
import stub

stub.main()
"""
UNCOVERED = ("ldconfig", "gcloud", "gsutil")  # their stand-ins run the real ones
INSTALLED_LATER = ("nvidia-smi",)  # comes and goes with its package: not on PATH by itself
OWN_MODES = {"root": 0o700, "tmp": 0o1777, "var/tmp": 0o1777, "etc/shadow": 0o640}


@dataclass(frozen=True)
class Mount:
    """A host tree or file shown in the machine."""

    source: str
    target: str
    read_only: bool = True

    def as_dict(self) -> dict[str, Any]:
        return {"source": self.source, "target": self.target, "read_only": self.read_only}


def interpreter() -> Path:
    """The Python below our environment, by its real path."""
    return Path(os.path.realpath(sys.executable))


def python_trees() -> list[Path]:
    """What that Python needs, so little that it may lie anywhere (even in /usr/local)."""
    base = Path(sys.base_prefix)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if base == Path("/usr"):
        return []
    if base == Path("/usr/local"):
        return [interpreter(), base / "lib" / version, *sorted((base / "lib").glob("libpython*"))]
    return [base]


def environment_tree() -> Path:
    """The project's virtual environment."""
    return Path(sys.prefix)


def make(directory: Path, files: dict[str, str | bytes], extra: list[Path]) -> list[Mount]:
    """Make the disk of a new machine and say what is mounted on it.

    files: path -> content, written last. extra: host trees shown read-only at their own paths.
    """
    disk = directory / "disk"
    for name in OWN_DIRECTORIES:
        (disk / name).mkdir(parents=True, exist_ok=True)
    for name in ("usr-local/bin", "usr-local/sbin", "usr-local/lib", "state"):
        (directory / name).mkdir(parents=True)
    make_machinery(directory / "machinery")
    mounts = [*system_mounts(disk), *etc_mounts(disk)]
    mounts += own_mounts(directory)
    trees = [*python_trees(), environment_tree(), *extra]
    mounts += [mount for tree in trees for mount in shown(disk, directory, tree, mounts)]
    for name, content in files.items():
        write_file(directory, name, content)
    for name in ("disk", "usr-local", "machinery"):
        open_to_all(directory / name)
    for name, mode in OWN_MODES.items():
        if (disk / name).exists():
            (disk / name).chmod(mode)
    if interpreter().is_relative_to("/root"):
        (disk / "root").chmod(0o711)  # who logs in runs stand-ins too
    return mounts


def open_to_all(top: Path) -> None:
    """As an image has it: whoever runs inside may read, also where our own umask is strict."""
    for folder, _, files in os.walk(top):
        for path in (Path(folder), *(Path(folder, name) for name in files)):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))


def system_mounts(disk: Path) -> list[Mount]:
    """/usr and the top directories that belong to it, as the host has them."""
    mounts = [Mount("/usr", "/usr")]
    for name in SYSTEM_DIRECTORIES:
        host = Path("/", name)
        if host.is_symlink():
            (disk / name).symlink_to(os.readlink(host))
        elif host.is_dir():
            (disk / name).mkdir()
            mounts.append(Mount(str(host), f"/{name}"))
    return mounts


def etc_mounts(disk: Path) -> list[Mount]:
    """The parts of /etc that the host's programs cannot do without."""
    for name in COPIED_ETC:
        source, target = Path("/etc", name), disk / "etc" / name
        if source.is_dir():
            shutil.copytree(source, target)
        elif source.exists():
            shutil.copyfile(source, target)
    present = [name for name in READ_ONLY_ETC if Path("/etc", name).is_dir()]
    return [Mount(f"/etc/{name}", f"/etc/{name}") for name in present]


def make_machinery(directory: Path) -> None:
    """The interpreter, process 1, the stand-ins: copied, so that an edit changes no machine."""
    library = directory / "lib"
    shutil.copytree(GUEST, library, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(KERNEL, library / "kernel.py")
    (directory / "state").mkdir()
    (directory / "python").symlink_to(interpreter())
    for name in stub_names():
        script = directory / ("extra" if name in INSTALLED_LATER else "bin") / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(STUB)
        script.chmod(0o755)


def stub_names() -> list[str]:
    """The commands that have a stand-in."""
    return sorted(json.loads((GUEST / "stubs.json").read_text()))


def own_mounts(directory: Path) -> list[Mount]:
    """What is the machine's own, or the machinery's, on top of the host's trees.

    A stand-in also lies over the host's program, so that an absolute path finds it too."""
    mounts = [
        Mount(str(directory / "usr-local"), "/usr/local", read_only=False),
        Mount(str(directory / "machinery"), "/.machine"),
        Mount(str(directory / "state"), "/.machine/state", read_only=False),
    ]
    for name in stub_names():
        for folder in ("/usr/bin", "/usr/sbin"):
            real = Path(folder, name)
            if (
                name not in (*UNCOVERED, *INSTALLED_LATER)
                and real.is_file()
                and not real.is_symlink()
            ):
                mounts.append(Mount(str(directory / "machinery/bin" / name), str(real)))
    return mounts


def shown(disk: Path, directory: Path, tree: Path, mounts: list[Mount]) -> list[Mount]:
    """`tree` at its own path, unless it is to be seen already."""
    if not tree.exists():
        raise FileNotFoundError(tree)
    if tree.is_relative_to("/usr/local"):
        point = directory / "usr-local" / tree.relative_to("/usr/local")
    elif tree.is_relative_to("/usr") or any(m.source == str(tree) for m in mounts):
        return []
    else:
        point = disk / str(tree).lstrip("/")
    if tree.is_dir():
        point.mkdir(parents=True, exist_ok=True)
    else:
        point.parent.mkdir(parents=True, exist_ok=True)
        point.touch()
    return [Mount(str(tree), str(tree))]


def write_file(directory: Path, name: str, content: str | bytes) -> None:
    """A file of the new machine by its path inside; scripts may be run."""
    inside = name.lstrip("/")
    if inside.startswith("usr/local/"):
        path = directory / "usr-local" / inside.removeprefix("usr/local/")
    else:
        path = directory / "disk" / inside
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(data)
    if data.startswith(b"#!"):
        path.chmod(0o755)


def write_link(directory: Path, name: str, target: str) -> None:
    """A symbolic link on the new machine's disk."""
    path = directory / "disk" / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def give_to(directory: Path, uid: int) -> None:
    """Hand the machine's own files to `uid`, who is root inside."""
    for name in ("disk", "usr-local", "state", "machinery"):
        for folder, directories, files in os.walk(directory / name):
            for entry in (*directories, *files):
                os.lchown(os.path.join(folder, entry), uid, uid)
        os.lchown(directory / name, uid, uid)


def remove(directory: Path) -> None:
    """Delete a machine's directory, whatever modes it left on its own."""

    def open_up(function: Any, path: str, _: Any) -> None:
        os.chmod(os.path.dirname(path), 0o700)
        if os.path.isdir(path) and not os.path.islink(path):
            os.chmod(path, 0o700)
        function(path)

    if directory.exists():
        shutil.rmtree(directory, onerror=open_up)


def read_untrusted(path: Path, limit: int) -> str:
    """A file of the machine's, which may have made it a link to one of the host's: not followed."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with open(handle, "rb") as source:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return ""
        return source.read(limit).decode(errors="replace")
