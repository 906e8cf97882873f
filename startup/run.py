"""Run a layer's stages side by side where nothing forces an order, each within its limit.

`python3 -m startup.run`, with the settings in the environment. A stage is a script; what it
prints goes to the serial console and to /var/log/mayfly/<stage>.log. It may leave
/run/mayfly/why/<stage> (one plain line: why it failed) and /run/mayfly/bytes/<stage>.
Exit status 75 of a stage asks for a reboot: after it the same stages run again and find
what is done. Ends with 0 (serving, seeded, probed or rebooting) or 1 (failed, and said so).
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from startup import paths, words

REBOOT_STATUS = 75
GRACE_S = 5.0
UNIT_STOP_S = 25.0
LAST_LINES = 5
MAX_LINE_BYTES = 64 << 10


@dataclass(frozen=True)
class Stage:
    """name: in the timeline. phase: shown while it runs. limit_s: then it has failed.

    optional: its failure is told, and holds nobody up. late: it runs when all the others are done
    and that was said. unit: what it starts; stopped when the stage comes to no good end.
    """

    name: str
    script: str
    phase: str
    limit_s: float
    after: tuple[str, ...] = ()
    optional: bool = False
    late: bool = False
    unit: str = ""


VLLM = "mayfly-vllm.service"
SERVE_NEEDS = ("driver", "gib", "engine", "config", "caches")  # its shards come while it starts
SESSION = (
    Stage("ram", "05-ram.sh", "booting", 120),
    Stage("driver", "10-driver.sh", "driver", 900),
    Stage("gib", "20-gib.sh", "driver", 120),
    Stage("engine", "40-engine.sh", "engine", 900),
    Stage("config", "30-config.sh", "weights", 300, after=("ram",)),
    Stage("weights", "30-weights.sh", "weights", 2400, after=("config",)),
    Stage("caches", "35-caches.sh", "weights", 120, after=("driver",), optional=True),
    Stage("serve", "50-serve.sh", "loading", 3600, after=SERVE_NEEDS, unit=VLLM),
    Stage("check", "60-check.sh", "checking", 1800, after=("serve", "weights")),
    Stage("save", "70-save.sh", "serving", 600, after=("check",), optional=True, late=True),
)
SEED = (
    Stage("tools", "seed-tools.sh", "booting", 600),
    Stage("driver-packages", "seed-driver.sh", "engine", 900),
    Stage("engine", "seed-engine.sh", "engine", 3600, after=("tools",)),
    Stage("weights", "seed-weights.sh", "seeding", 6 * 3600, after=("engine", "driver-packages")),
)
PROBE = (
    Stage("driver", "10-driver.sh", "driver", 900),
    Stage("engine", "40-engine.sh", "engine", 900),
    Stage("rank", "rank.sh", "checking", 1200, after=("driver", "engine"), unit=VLLM),
)
LAYERS = {"session": SESSION, "seed": SEED, "probe": PROBE}


class StageError(Exception):
    """Why, in words for the user."""


class RebootRequest(Exception):  # noqa: N818  # a request, not an error
    pass


class Runner:
    """Runs stages once. The phase shown is that of the first stage, in their order, that runs."""

    def __init__(self, stages: Sequence[Stage], scripts: Path) -> None:
        self._stages = tuple(stages)
        self._scripts = scripts
        self._done = {stage.name: asyncio.Event() for stage in stages}
        self._running: list[Stage] = []
        self._timeline = words.Timeline()

    async def run(self, ready: Callable[[], None]) -> None:
        """All stages done, with `ready` called before the late ones.

        StageError or RebootRequest: each script has ended, and all it started was told to.
        """
        await self._together([stage for stage in self._stages if not stage.late])
        ready()
        try:
            await self._together([stage for stage in self._stages if stage.late])
        except Exception as error:  # nothing that comes now may call a good start a failed one
            print(f"mayfly: a late stage broke the runner: {error!r}", flush=True)

    async def _together(self, stages: Sequence[Stage]) -> None:
        tasks = [asyncio.create_task(self._when_ready(stage)) for stage in stages]
        if not tasks:
            return
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        errors = [e for task in tasks if task in done and (e := task.exception()) is not None]
        for error in sorted(errors, key=lambda e: isinstance(e, RebootRequest)):
            raise error  # a failure before a reboot: rebooting would hide it

    async def _when_ready(self, stage: Stage) -> None:
        for name in stage.after:
            await self._done[name].wait()
        self._running.append(stage)
        self._show_phase()
        self._timeline.start(stage.name)
        began = time.monotonic()
        ended = "failed"
        try:
            await self._run_script(stage)
            ended = "done"
        except RebootRequest:
            ended = "done"
            raise
        except StageError as failure:
            if not stage.optional:
                raise
            said = f"{failure}; going on without it"
            print(f"mayfly: {said}", flush=True)
            if not stage.late:  # then the last word is that it serves
                words.set_message(said)
        except asyncio.CancelledError:
            ended = "cut off"
            raise
        finally:
            if stage.unit and ended != "done":
                await _stop(stage.unit)
            self._running.remove(stage)
            self._tell_end(stage, ended, time.monotonic() - began)
        self._show_phase()
        self._done[stage.name].set()

    def _tell_end(self, stage: Stage, ended: str, took_s: float) -> None:
        size = _number(paths.run_dir() / "bytes" / stage.name)
        print(f"mayfly {stage.name}: {summary(ended, took_s, size)}", flush=True)
        if ended == "cut off":
            self._timeline.drop(stage.name)
        else:
            self._timeline.end(stage.name, ended == "done", size)

    def _show_phase(self) -> None:
        running = [stage for stage in self._stages if stage in self._running and not stage.late]
        if running and words.phase() != running[0].phase:
            words.set_phase(running[0].phase)

    async def _run_script(self, stage: Stage) -> None:
        why = paths.run_dir() / "why" / stage.name
        why.unlink(missing_ok=True)
        process = await asyncio.create_subprocess_exec(
            "bash",
            str(self._scripts / stage.script),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "MAYFLY_STAGE": stage.name},
            start_new_session=True,
            limit=MAX_LINE_BYTES,
        )
        last: deque[str] = deque(maxlen=LAST_LINES)
        try:
            follow = self._follow(process, stage.name, last)
            status = await asyncio.wait_for(follow, stage.limit_s)
        except asyncio.TimeoutError:  # noqa: UP041  # its own class before Python 3.11
            raise StageError(
                f"stage {stage.name} took longer than its {stage.limit_s:.0f} s; {_tail(last)}"
            ) from None
        finally:
            await _end(process)
        if status == REBOOT_STATUS and not stage.optional:
            raise RebootRequest
        if status != 0:
            said = paths.read(why) or f"exit status {status}; {_tail(last)}"
            raise StageError(f"stage {stage.name} failed: {said}")

    async def _follow(
        self, process: asyncio.subprocess.Process, name: str, last: deque[str]
    ) -> int:
        """Its exit status, once it is over and nobody can print for it any more."""
        assert process.stdout is not None
        with (paths.log_dir() / f"{name}.log").open("ab", buffering=0) as log:
            while True:
                try:
                    raw = await process.stdout.readline()
                except ValueError:  # longer than a line may be: that piece is dropped
                    continue
                if not raw:
                    return await process.wait()
                log.write(raw)
                line = raw.decode("utf-8", "replace").rstrip()
                last.append(line)
                print(f"mayfly {name}: {line}", flush=True)


async def _end(process: asyncio.subprocess.Process) -> None:
    """TERM, then KILL, to the stage and all it started."""
    for signal_number, grace_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal_number)
        if process.returncode is None:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), grace_s)
        if process.returncode is not None:
            return


async def _stop(unit: str) -> None:
    """As far as it can be: there is a better reason to tell than a unit that hangs."""
    process = await asyncio.create_subprocess_exec("systemctl", "stop", unit)
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(process.wait(), UNIT_STOP_S)


def summary(ended: str, took_s: float, size: int | None) -> str:
    text = f"{ended} in {took_s:.1f} s"
    if size:
        text += f", {size / 1e6:,.1f} MB at {size / 1e6 / max(took_s, 0.001):.0f} MB/s"
    return text


def _tail(lines: Sequence[str]) -> str:
    return "its last lines: " + (" | ".join(line for line in lines if line) or "none")


def _number(path: Path) -> int | None:
    text = paths.read(path)
    return int(text) if text.isdecimal() else None


def run_layer(stages: Sequence[Stage], scripts: Path, ready: Callable[[], None]) -> int:
    async def go() -> None:
        for folder in (paths.run_dir() / "why", paths.run_dir() / "bytes", paths.log_dir()):
            folder.mkdir(parents=True, exist_ok=True)
        task = asyncio.ensure_future(Runner(stages, scripts).run(ready))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await task

    try:
        asyncio.run(go())
    except StageError as failure:
        print(f"mayfly: {failure}", flush=True)
        words.set_phase("failed", str(failure))
        return 1
    except RebootRequest:
        return reboot()
    except asyncio.CancelledError:
        return 1  # the machine goes down: whoever ended it has said why
    except Exception as error:  # a runner that dies in silence costs start_s of GPUs
        words.set_phase("failed", f"the stages' runner broke: {error!r}")
        raise
    return 0


def reboot() -> int:
    """Exit status 1 where systemd refuses: who says `rebooting` and stays is waited for."""
    why = paths.read(paths.run_dir() / "reboot-planned")
    words.set_phase("rebooting", f"rebooting: {why}" if why else "rebooting")
    if subprocess.run(["systemctl", "reboot"], check=False).returncode == 0:
        return 0
    words.set_phase("failed", "the machine should reboot, and systemctl reboot failed")
    return 1


def serving() -> None:
    words.set_phase("serving", paths.read(paths.run_dir() / "answers") or None)


def seeded() -> None:
    words.set_phase("seeded", f"{os.environ['MAYFLY_WEIGHTS_URI']} is complete")


def probed() -> None:
    words.set_phase("probed", "one rank is measured")


def main() -> int:
    layer = os.environ["MAYFLY_LAYER"]
    ready = {"session": serving, "seed": seeded, "probe": probed}[layer]
    status = run_layer(LAYERS[layer], Path(__file__).parent, ready)
    if status != 0 or words.phase() == "rebooting" or layer == "session":
        return status
    return subprocess.run(["systemctl", "poweroff"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
