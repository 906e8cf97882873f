"""A machine on which the real watchdog looks, in memory where that matters for speed.

What the probes read is real: a process table and terminals as files, vLLM's own exposition format,
guest attributes, a lease in a bucket. Only the two calls that leave the process are answered here,
`cloud._exchange` and systemctl: over loopback a night of looks would take minutes.
"""

import contextlib
import json
import os
import tempfile
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mayfly import idle
from startup import cloud, paths, serving, watchdog

BOOTED = 1000.0
WALL0 = 1_800_000_000.0
VM_ID = "4242"
SETTINGS = {
    "MAYFLY_STATE_BUCKET": "state",
    "MAYFLY_SESSION": "dev",
    "MAYFLY_PORT": "8000",
}
ZERO = dict.fromkeys(("running", "waiting", "prompt", "generation", "success"), 0)
EXPOSITION = """# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="m"}} {running}
vllm:num_requests_waiting{{engine="0",model_name="m"}} {waiting}
vllm:prompt_tokens_total{{engine="0",model_name="m"}} {prompt}
vllm:generation_tokens_total{{engine="0",model_name="m"}} {generation}
vllm:request_success_total{{engine="0",finished_reason="stop",model_name="m"}} {success}
"""


class Simulated:
    """One VM's life. `at` is in seconds since its creation, on a clock that nobody can set."""

    def __init__(self, root: Path, limits: idle.Limits) -> None:
        self.root, self.limits = root, limits
        self.at = 0.0
        self.wall_jump_s = 0.0
        self.metrics: str | None = EXPOSITION.format(**ZERO)
        self.lease: bytes | None = None
        self.metadata_down = self.storage_down = False
        self.guest: dict[str, str] = {}
        self.ended_at: float | None = None
        for folder in ("dev/pts", "proc", "run/mayfly", "var/lib/mayfly"):
            (root / folder).mkdir(parents=True)
        self.settings = SETTINGS | {
            f"MAYFLY_{key.upper()}": str(value) for key, value in vars(limits).items()
        }
        self.start()

    def start(self) -> None:
        """The watchdog as systemd starts it, also after a kill."""
        clock = watchdog.Clock(lambda: BOOTED + self.at, lambda: self.now + self.wall_jump_s)
        self.dog = watchdog.Watchdog(self.settings, self._off, clock)

    def _off(self) -> None:
        self.ended_at = self.at if self.ended_at is None else self.ended_at

    @property
    def now(self) -> float:
        """Unix seconds, by everybody's clock but the VM's own."""
        return WALL0 + self.at

    def look(self) -> idle.Verdict:
        return self.dog.look()

    def reaper(self, later_s: float = 0) -> idle.Verdict:
        """What the function would say by then, of what the VM claims now."""
        now = self.now + later_s
        lease = idle.parse_lease(self.lease) if self.lease is not None else None
        until = lease.until if lease is not None and lease.holds(VM_ID) else None
        seen = idle.parse_observation("RUNNING", WALL0, self.guest or None, until, now)
        return idle.verdict(seen, self.limits, now)

    def phase(self, name: str) -> None:
        (self.root / "run/mayfly/phase").write_text(name)
        self.guest["phase"] = name

    def counters(self, **values: float) -> None:
        self.metrics = EXPOSITION.format(**ZERO | values)

    def keep(self, until_s: float, **more: Any) -> None:
        body = {"until": idle.rfc3339(WALL0 + until_s), "by": "ann", **more}
        self.lease = json.dumps(body).encode()

    def terminal(self, number: str, *, typed_s: float | None) -> None:
        """A login; typed_s: how long after its opening a key was read last. None: it closes."""
        pty = self.root / "dev/pts" / number
        if typed_s is None:
            pty.unlink(missing_ok=True)
            return
        pty.touch()
        opened = time.time()  # the kernel's own: no program sets it
        os.utime(pty, (opened + typed_s, opened))

    def process(self, pid: int, facts: Mapping[str, Any] | None) -> None:
        """A process as /proc shows it; None: it ends. Seconds and bytes are since its start."""
        folder = self.root / "proc" / str(pid)
        if facts is None:
            for file in folder.glob("*"):
                file.unlink()
            with contextlib.suppress(FileNotFoundError):
                folder.rmdir()
            return
        folder.mkdir(exist_ok=True)
        ticks = round(facts.get("cpu_s", 0) * 100)
        stat = f"{pid} ({facts['comm']}) S {facts['parent']} 1 1 {facts.get('tty', 0)} -1 0 0 0 0 0"
        (folder / "stat").write_text(f"{stat} {ticks} 0 0 0 20 0 1 0 77 0 0\n")
        (folder / "io").write_text(f"rchar: {facts.get('moved', 0)}\nwchar: 0\n")
        if not (folder / "exe").is_symlink():
            (folder / "exe").symlink_to(facts.get("exe", "/usr/bin/program"))

    def exchange(
        self, url: str, method: str, data: bytes | None, headers: object, timeout_s: float
    ) -> tuple[Mapping[str, str], bytes]:
        """Everything that the watchdog asks of others."""
        path = urllib.parse.unquote(urllib.parse.urlsplit(url).path)
        if path == "/metrics":
            return {}, self._answer(self.metrics.encode() if self.metrics is not None else None)
        if "/computeMetadata/" in path:
            if self.metadata_down:
                raise cloud.CloudError(0, "the metadata server does not answer")
            if method == "PUT":
                self.guest[path.rpartition("/")[2]] = (data or b"").decode()
            if path.endswith("/token"):
                return {}, b'{"access_token":"t","expires_in":3600}'
            date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(self.now))
            return {"Date": date}, VM_ID.encode()
        if self.storage_down:
            raise cloud.CloudError(503, "storage says 503")
        if self.lease is None:
            raise cloud.CloudError(404, "no such object")
        return {}, self.lease

    @staticmethod
    def _answer(body: bytes | None) -> bytes:
        if body is None:
            raise cloud.CloudError(0, "127.0.0.1:8000 does not answer")
        return body


@contextlib.contextmanager
def simulated(limits: idle.Limits) -> Iterator[Simulated]:
    """A machine that has just been made. It is gone, with all it wrote, afterwards."""
    memory = Path("/dev/shm")
    place = memory if memory.is_dir() else None
    with (
        tempfile.TemporaryDirectory(dir=place) as name,
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(None),
        contextlib.redirect_stderr(None),
    ):
        patch.setenv("MAYFLY_ROOT", name)
        made = Simulated(Path(name), limits)
        patch.setattr(cloud, "_exchange", made.exchange)
        patch.setattr(serving, "_systemctl", lambda *words, timeout_s=0.0: "ActiveState=active")
        assert paths.root() == Path(name)
        yield made
