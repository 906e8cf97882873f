"""Pack a folder as several archives of about the same size, so that a node unpacks them at once.

`python3 -m startup.seed_pack FOLDER OUT`: OUT/env-00.tar.gz and so on, all rooted at FOLDER's name.
tar and gzip work through 10 GB in 90 s on one core, and every image has them; PARTS cores do it in
the time that the largest file takes.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PARTS = 32


def entries(folder: Path) -> list[tuple[int, str]]:
    """(bytes, path below folder's parent) of every file, link and empty folder, largest first."""
    found = []
    for where, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(where, name))]
        names = [*files, *links] if files or folders else [""]
        for name in names:
            path = os.path.join(where, name).rstrip("/")
            found.append((os.lstat(path).st_size, os.path.relpath(path, folder.parent)))
    return sorted(found, key=lambda entry: (-entry[0], entry[1]))


def split(found: Sequence[tuple[int, str]], parts: int) -> list[list[str]]:
    """As many piles as parts at most, none of them empty; each entry goes where least is."""
    piles: list[list[str]] = [[] for _ in range(parts)]
    sizes = [0] * parts
    for size, path in found:
        lightest = sizes.index(min(sizes))
        piles[lightest].append(path)
        sizes[lightest] += size + 4096  # thousands of small files are work too
    return [pile for pile in piles if pile]


def pack(folder: Path, out: Path, parts: int = PARTS) -> None:
    """Write the archives. CalledProcessError when tar or gzip fails."""

    def one(number: int, pile: list[str]) -> None:
        command = ["tar", "-C", str(folder.parent), "-I", "gzip -1", "--no-recursion", "--null"]
        command += ["-cf", str(out / f"env-{number:02}.tar.gz"), "--verbatim-files-from", "-T", "-"]
        subprocess.run(command, input="\0".join(pile).encode(), check=True)

    out.mkdir(parents=True, exist_ok=True)
    piles = split(entries(folder), parts)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, range(len(piles)), piles))


if __name__ == "__main__":
    pack(Path(sys.argv[1]), Path(sys.argv[2]))
