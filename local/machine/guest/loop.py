"""One thread that waits for files, children and moments, and calls back."""

import contextlib
import heapq
import itertools
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable

Callback = Callable[[], None]


class Loop:
    """Process 1's patience. Every callback must be quick."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Callback]] = []
        self._order = itertools.count()
        self._children: dict[int, Callable[[int], None]] = {}
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        reader.setblocking(False)
        self._wake = (reader, writer)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self.watch(reader.fileno(), self._reap)

    def watch(self, fd: int, callback: Callback) -> None:
        """Call back whenever `fd` can be read."""
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def forget(self, fd: int) -> None:
        self._selector.unregister(fd)

    def later(self, delay_s: float, callback: Callback) -> None:
        """Call back once, after delay_s."""
        entry = (time.monotonic() + delay_s, next(self._order), callback)
        heapq.heappush(self._timers, entry)

    def child(self, pid: int, callback: Callable[[int], None]) -> None:
        """Call back with the wait status when `pid` ends."""
        self._children[pid] = callback

    def run(self) -> None:
        """Never returns."""
        while True:
            for key, _ in self._selector.select(self._patience()):
                key.data()
            while self._timers and self._timers[0][0] <= time.monotonic():
                heapq.heappop(self._timers)[2]()

    def _patience(self) -> float | None:
        if not self._timers:
            return None
        return max(0.0, self._timers[0][0] - time.monotonic())

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake[0].recv(4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            callback = self._children.pop(pid, None)  # the others are orphans that came to us
            if callback is not None:
                callback(status)


class Lines:
    """Reads `fd` without blocking and hands over whole lines; the last one even without its end."""

    LIMIT = 48 * 1024  # as long as journald lets a line be

    def __init__(self, loop: Loop, fd: int, take: Callable[[str], None]) -> None:
        self._loop, self._fd, self._take = loop, fd, take
        self._rest = b""
        self.open = True
        os.set_blocking(fd, False)
        loop.watch(fd, self.read)

    def read(self) -> None:
        if not self.open:
            return
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        if not data or len(self._rest) > self.LIMIT:
            lines, self._rest = [*lines, *([self._rest] if self._rest else [])], b""
        for line in lines:
            self._take(line.decode(errors="replace"))
        if not data:
            self.close()

    def drain(self) -> None:
        """Take what is there now; the writers may live on."""
        for _ in range(64):
            before = self._rest, self.open
            self.read()
            if not self.open or (self._rest, self.open) == before:
                return

    def close(self) -> None:
        if self.open:
            self.open = False
            self._loop.forget(self._fd)
            os.close(self._fd)
