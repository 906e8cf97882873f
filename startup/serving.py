"""vLLM while it serves: whether it was used, and one new start where it has died.

With the weights in RAM and the kernels compiled, a new start takes a minute or two; another VM
takes the whole start-up, if there is one to be had. A second death within AGAIN_S is no accident:
then the phase is `failed`, and the VM ends when nobody looks into it for failed_s.
"""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mayfly import idle
from startup import paths, words
from startup.probes import Metrics, NoAnswerError, UnknownError

UNIT = "mayfly-vllm.service"
AGAIN_S = 3600.0
STATE_TIMEOUT_S = 10.0
RESTART_TIMEOUT_S = 60.0  # above the unit's TimeoutStopSec
TAIL_BYTES = 64 << 10
MAX_LINE = 300
ERROR = re.compile(r"\b\w*(Error|Exception)\b")
HOLLOW = "EngineDeadError"  # says only that there was another


class Serving:
    """The probe of phase `serving`. What it needs between calls it keeps in `memory`.

    `memory["person"]` is when somebody was last seen at work on the VM.
    """

    def __init__(
        self,
        port: int,
        limits: idle.Limits,
        memory: dict[str, Any],
        clock: Callable[[], float],
    ) -> None:
        self._metrics = Metrics(port, memory)
        self._limits, self._memory, self._clock = limits, memory, clock

    def __call__(self, elapsed_s: float) -> str:
        try:
            active = self._metrics(elapsed_s)
        except NoAnswerError as error:
            return self._missing(error)
        self._memory["answered"] = self._clock()
        if self._memory.pop("starting", None):
            words.set_message(f"{_served()}; started again after: {self._memory['died_of']}")
        return active

    def _missing(self, error: UnknownError) -> str:
        """It does not answer: wait, start it again, or say that it failed."""
        now, memory = self._clock(), self._memory
        state, result = unit_state()
        silent_s = now - memory.setdefault("answered", now)
        if state == "inactive" and now - memory.get("person", -AGAIN_S) < self._limits.failed_s:
            raise UnknownError("vLLM is stopped, and somebody is at work here") from error
        if state in ("failed", "inactive"):
            said = last_words(memory.get("log_bytes", 0))
            return self._died(f"vLLM ended ({result}): {said}", now)
        if memory.get("starting"):
            if silent_s >= self._limits.start_s:
                return self._died(f"vLLM did not answer for {silent_s / 60:.0f} min", now)
            return ""  # it loads: we know, and nobody uses it
        # Before the heartbeat that we hold back meanwhile is missed outside.
        if silent_s >= 0.8 * min(self._limits.failed_s, self._limits.heartbeat_s):
            return self._died(f"vLLM did not answer for {silent_s:.0f} s", now)
        raise error

    def _died(self, why: str, now: float) -> str:
        """What it says where that is the end: the failure is the last that happened here."""
        memory = self._memory
        before = memory.get("restarted")
        if before is not None and now - before < AGAIN_S:
            again_s = now - before
            words.set_phase("failed", f"{why} (it was started again {again_s / 60:.0f} min before)")
            return "vLLM died"
        memory.update(restarted=now, answered=now, starting=True, died_of=why)
        memory["log_bytes"] = log_file().stat().st_size if log_file().exists() else 0
        words.set_message(f"starting vLLM again: {why}")
        print(f"starting {UNIT} again: {why}", flush=True)
        for verb in ("reset-failed", "restart"):
            _systemctl(verb, UNIT, timeout_s=RESTART_TIMEOUT_S)
        return ""


def unit_state() -> tuple[str, str]:
    """(ActiveState, Result) of vLLM's unit. UnknownError: cannot look, or the VM goes down."""
    if _systemctl("is-system-running") == "stopping":
        raise UnknownError("the machine goes down")
    said = _systemctl("show", "-p", "ActiveState", "-p", "Result", UNIT)
    facts = dict(line.partition("=")[::2] for line in said.splitlines())
    if "ActiveState" not in facts:
        raise UnknownError(f"systemctl show {UNIT} says {said!r}")
    return facts["ActiveState"], facts.get("Result", "")


def _systemctl(*command: str, timeout_s: float = STATE_TIMEOUT_S) -> str:
    """What it prints; its status says too little: `is-system-running` fails where all is well."""
    try:
        done = subprocess.run(
            ["systemctl", *command],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnknownError(f"systemctl {command[0]}: {error}") from error
    return done.stdout.strip()


def log_file() -> Path:
    return paths.log_dir() / "vllm.log"


def last_words(since_bytes: int) -> str:
    """The error that vLLM ended with, or its last lines; of what its log says after since_bytes."""
    try:
        with log_file().open("rb") as log:
            size = log.seek(0, 2)
            log.seek(max(0, size - TAIL_BYTES, since_bytes if since_bytes <= size else 0))
            text = log.read().decode("utf-8", "replace")
    except OSError as error:
        return f"its log cannot be read: {error}"
    lines = [line.strip()[:MAX_LINE] for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if ERROR.search(line) and HOLLOW not in line]
    return " | ".join(errors[-1:] or lines[-3:]) or "it said nothing"


def _served() -> str:
    return paths.read(paths.run_dir() / "answers") or "vLLM answers"
