"""The user's cache: `<cache>/mayfly/<tool>/<version>/<tool>`, made once a machine."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.say import say, still


def cache_dir() -> Path:
    """mayfly's part of the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "mayfly"


@dataclass(frozen=True)
class Slot:
    """Where one version of one tool lies, or will lie."""

    tool: str
    version: str

    @property
    def folder(self) -> Path:
        return cache_dir() / self.tool / self.version

    @property
    def program(self) -> Path:
        return self.folder / self.tool

    def filled(self) -> bool:
        return os.access(self.program, os.X_OK)

    def fill(self, make: Callable[[Path], None], duration: str) -> Path:
        """The program; if it is not there yet, `make(folder)` leaves it in a folder of its own.

        Two setups at once: the second waits and finds it made. A make that fails leaves nothing.
        duration: how long it takes, for the person who waits.
        """
        if self.filled():
            return self.program
        with self._alone():
            if not self.filled():
                self._make(make, duration)
        return self.program

    def _make(self, make: Callable[[Path], None], duration: str) -> None:
        say(f"{self.tool} {self.version}: {duration}, once a machine, into {self.folder}")
        started = time.monotonic()
        for stale in self.folder.parent.glob(f".{self.version}-*"):
            shutil.rmtree(stale)  # of a setup that was killed: this one is alone here
        work = Path(tempfile.mkdtemp(prefix=f".{self.version}-", dir=self.folder.parent))
        work.chmod(0o755)  # a temporary folder is made for its owner only
        try:
            with still(f"{self.tool} {self.version}", duration):
                make(work)
            shutil.rmtree(self.folder, ignore_errors=True)
            work.rename(self.folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        say(f"{self.tool} {self.version}: done in {time.monotonic() - started:.0f} s")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One setup at a time for this tool; the lock goes with the process, even a killed one."""
        folder = cache_dir() / self.tool
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"{self.tool}: another setup is at work on it; waiting")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
