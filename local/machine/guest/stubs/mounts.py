"""mount and umount: tmpfs really, in the machine's own namespace; nothing else."""

import re
import subprocess
from pathlib import Path

import kernel
from stub import fail

FLAGS = {"nosuid": kernel.MS_NOSUID, "nodev": kernel.MS_NODEV, "noexec": kernel.MS_NOEXEC}
IGNORED = ("rw", "defaults", "noatime", "relatime")
TMPFS_OPTION = re.compile(r"(size|nr_inodes|mode|uid|gid|huge|noswap|mpol)(=.+)?")


def main(name: str, argv: list[str]) -> int:
    return umount(argv) if name == "umount" else mount(argv)


def mount(argv: list[str]) -> int:
    kind, options, words = "", [], []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word in ("-t", "--types") and rest:
            kind = rest.pop(0)
        elif word in ("-o", "--options") and rest:
            options += rest.pop(0).split(",")
        elif word.startswith("-"):
            return fail(f"mount: unrecognized option '{word}'")
        else:
            words.append(word)
    if not argv:
        return subprocess.run(["cat", "/proc/self/mounts"], check=False).returncode
    if len(words) != 2 or not kind:
        return fail(f"mount: {' '.join(words)}: can't find in /etc/fstab.")
    return attach(kind, options, words[0], words[1])


def attach(kind: str, options: list[str], source: str, target: str) -> int:
    if not Path(target).is_dir():
        return fail(f"mount: {target}: mount point does not exist.", 32)
    if kind != "tmpfs":
        return fail(f"mount: {target}: special device {source} does not exist.", 32)
    flags, data = 0, []
    for option in options:
        if option in FLAGS:
            flags |= FLAGS[option]
        elif TMPFS_OPTION.fullmatch(option):
            data.append(option)
        elif option not in IGNORED:
            return fail(
                f"mount: {target}: wrong fs type, bad option, bad superblock on {source}.", 32
            )
    try:
        kernel.mount(source, target, "tmpfs", flags, ",".join(data))
    except OSError as error:
        return fail(f"mount: {target}: {error.strerror}.", 32)
    return 0


def umount(argv: list[str]) -> int:
    lazy = False
    targets = []
    for word in argv:
        if word in ("-l", "--lazy"):
            lazy = True
        elif word in ("-f", "--force"):
            continue
        elif word.startswith("-"):
            return fail(f"umount: unrecognized option '{word}'")
        else:
            targets.append(word.rstrip("/") or "/")
    for target in targets:
        points = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
        kinds = [kind for _, point, kind, *_ in points if point == target]
        if not kinds:
            return fail(f"umount: {target}: not mounted.", 32)
        if kinds[-1] != "tmpfs":
            return fail(f"umount: {target}: must be superuser to unmount.", 32)
        try:
            kernel.unmount(target, kernel.MNT_DETACH if lazy else 0)
        except OSError as error:
            what = "target is busy" if error.errno == 16 else "must be superuser to unmount"
            return fail(f"umount: {target}: {what}.", 32)
    return 0
