"""Which shards are to come, and waiting for them. Knows nothing of vLLM."""

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from startup import manifest, paths

MOST_AT_ONCE = 4
"""Shards a group: handing over costs the faster loaders a little each time."""
FEWEST_GROUPS = 8
"""Or else shards that are there would wait for those that are not."""
STALL_S = 300.0
"""Nothing has arrived for so long: nothing will. MAYFLY_STALL_S says otherwise."""
POLL_S = 0.2
TELL_S = 10.0


class StallError(Exception):
    """Shards were promised, and nothing arrives any more."""


@dataclass(frozen=True)
class Arrivals:
    """What the manifest promises. folder: where a shard has its name once it is whole."""

    folder: Path
    arriving: Path
    shards: tuple[manifest.File, ...]

    def here(self) -> int:
        return len(self.shards) - len(manifest.absent(list(self.shards), self.folder))

    def moved(self) -> int:
        """Grows while anything arrives: bytes that lie on the way, and whole shards."""
        on_the_way = 0
        for path in self.arriving.rglob("*"):
            try:
                on_the_way += path.stat().st_blocks * 512  # a file may be made in full size first
            except OSError:
                continue  # it has just got its name
        return on_the_way + self.here()


def expected() -> Arrivals | None:
    """What the machine's manifest promises at the top of the weights' folder; None without one."""
    mayfly = paths.root() / "mnt/mayfly"
    text = paths.read(mayfly / "weights.json")
    if not text:
        return None
    names = sorted(manifest.parse(text), key=lambda file: file.name)
    shards = tuple(f for f in names if f.name.endswith(".safetensors") and "/" not in f.name)
    return Arrivals(mayfly / "weights", mayfly / "arriving", shards)


def groups(shards: Sequence[manifest.File]) -> list[list[manifest.File]]:
    """The same in every process, whatever has arrived when: some loaders share out each group
    among all ranks, and would wait for ever for a rank that cuts it elsewhere."""
    size = max(1, min(MOST_AT_ONCE, math.ceil(len(shards) / FEWEST_GROUPS)))
    return [list(shards[at : at + size]) for at in range(0, len(shards), size)]


def wait(files: Sequence[manifest.File], arrivals: Arrivals, tell: Callable[[str], None]) -> float:
    """Until all of these are here: seconds waited. StallError when nothing arrives any more."""
    began = time.monotonic()
    stall_s = float(os.environ.get("MAYFLY_STALL_S") or STALL_S)
    moved, moved_at, told_at = -1, began, -math.inf
    while absent := manifest.absent(list(files), arrivals.folder):
        now = time.monotonic()
        if (new := arrivals.moved()) != moved:
            moved, moved_at = new, now
        if now - moved_at > stall_s:
            raise StallError(
                f"nothing has arrived in {arrivals.folder} for {stall_s:.0f} s; "
                f"{absent[0].name} is not there, {arrivals.here()} of {len(arrivals.shards)} are"
            )
        if now - told_at >= TELL_S:
            tell(f"waiting for {absent[0].name}: {arrivals.here()} of {len(arrivals.shards)} here")
            told_at = now
        time.sleep(POLL_S)
    return time.monotonic() - began
