"""The command provider's stand-in: `command:local:Command`, whose scripts run when the resource
is made,
changed and deleted."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from .log import Log
from .messages import Checked, Difference, RefusedError, Request, Urn
from .values import UNKNOWN, Object, has_unknown

VERSION = "1.2.1"
TOKEN = "command:local:Command"
DEFAULT_INTERPRETER = ["/bin/sh", "-c"]
LOGGING = ("stdout", "stderr", "stdoutAndStderr", "none")
TEXTS = ("create", "update", "delete", "stdin", "dir", "logging")
FLAGS = ("addPreviousOutputInEnv",)
LISTS = ("interpreter",)
UNSUPPORTED = ("assetPaths", "archivePaths")
INPUTS = (*TEXTS, *FLAGS, *LISTS, *UNSUPPORTED, "environment", "triggers")
END_WITHIN_S = 10.0


@dataclass
class Output:
    """What a script printed: each stream, and both as they came."""

    stdout: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)
    both: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, stream: str, line: str) -> None:
        with self.lock:
            getattr(self, stream).append(line)
            self.both.append(line)

    def text(self, stream: str) -> str:
        """The stream without its last newline."""
        return "".join(getattr(self, stream)).removesuffix("\n")


class Commands:
    """The provider. Running scripts are ended when the engine cancels."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()

    def configure_inputs(self, inputs: Object) -> Checked:
        return Checked(inputs=inputs)

    def configure(self, inputs: Object) -> None:
        """It has no configuration."""

    def invoke(self, token: str, arguments: Object) -> Object:
        raise RefusedError(f"the stand-in does not know {token}: it knows {TOKEN} only")

    def check(self, request: Request) -> Checked:
        if request.urn.type != TOKEN:
            raise RefusedError(
                f"unrecognized resource type {request.urn.type}: the stand-in knows {TOKEN} only"
            )
        given = {key: value for key, value in request.inputs.items() if value is not None}
        failures = [text for key, value in given.items() if (text := _problem(key, value))]
        inputs = {"addPreviousOutputInEnv": True, **given}
        return Checked(inputs=inputs, failures=failures)

    def diff(self, request: Request) -> Difference:
        changes, replaces = {}, []
        for key in INPUTS:
            old, new = request.old.get(key), request.inputs.get(key)
            if old == new and not has_unknown(new):
                continue
            if any(path.split("[")[0].split(".")[0] == key for path in request.ignore):
                continue
            replace = key == "triggers" and not request.inputs.get("update")
            kind = "add" if old is None else "delete" if new is None else "update"
            changes[key] = kind + ("-replace" if replace else "")
            replaces += [key] if replace else []
        return Difference(changes=changes, replaces=replaces)

    def create(self, request: Request) -> tuple[str, Object]:
        inputs = request.inputs
        if request.preview:
            return "", {**inputs, "stdout": UNKNOWN, "stderr": UNKNOWN}
        state = {
            **inputs,
            **self._run(request.urn, inputs, inputs.get("create"), {}, request.timeout_s),
        }
        seed = json.dumps([request.urn.text, os.urandom(8).hex()])
        return request.urn.name + hashlib.sha256(seed.encode()).hexdigest()[:8], state

    def update(self, request: Request) -> Object:
        inputs = request.inputs
        if request.preview:
            return {**inputs, "stdout": UNKNOWN, "stderr": UNKNOWN}
        script = inputs.get("update") or inputs.get("create")
        return {**inputs, **self._run(request.urn, inputs, script, request.old, request.timeout_s)}

    def delete(self, request: Request) -> None:
        old = request.old
        if old.get("delete"):
            self._run(request.urn, old, old["delete"], old, request.timeout_s)

    def read(self, request: Request) -> tuple[str, Object, Object]:
        """Nothing to look at: what was printed stays."""
        return request.resource_id, request.old, request.old_inputs

    def cancel(self) -> None:
        with self._lock:
            running = list(self._running)
        for process in running:
            _end(process)

    def _run(
        self, urn: Urn, inputs: Object, script: str | None, old: Object, limit_s: float
    ) -> Object:
        if not script:
            return {"stdout": old.get("stdout", ""), "stderr": old.get("stderr", "")}
        output = Output()
        process = self._start(inputs, script, old)
        try:
            status = self._follow(process, urn, inputs, output, limit_s)
        finally:
            with self._lock:
                self._running.discard(process)
        if status != 0:
            cause = (
                f"exit status {status}"
                if status > 0
                else f"signal: {signal.strsignal(-status)}".lower()
            )
            raise RefusedError(f"{cause}: running {json.dumps(script)}:\n{''.join(output.both)}")
        return {"stdout": output.text("stdout"), "stderr": output.text("stderr")}

    def _start(self, inputs: Object, script: str, old: Object) -> subprocess.Popen[str]:
        environment = {
            **_inherited(),
            **{k: str(v) for k, v in (inputs.get("environment") or {}).items()},
        }
        if inputs.get("addPreviousOutputInEnv") is not False and old:
            environment["PULUMI_COMMAND_STDOUT"] = str(old.get("stdout", ""))
            environment["PULUMI_COMMAND_STDERR"] = str(old.get("stderr", ""))
        arguments = [*(inputs.get("interpreter") or DEFAULT_INTERPRETER), script]
        try:
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=inputs.get("dir") or None,
                env=environment,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise RefusedError(
                f"{error.strerror}: running {json.dumps(script)}:\n{error}"
            ) from error
        with self._lock:
            self._running.add(process)
        return process

    def _follow(
        self,
        process: subprocess.Popen[str],
        urn: Urn,
        inputs: Object,
        output: Output,
        limit_s: float,
    ) -> int:
        logged = inputs.get("logging", "stdoutAndStderr")
        threads = [
            threading.Thread(target=_write, args=(process.stdin, str(inputs.get("stdin") or ""))),
            *(
                threading.Thread(
                    target=self._copy,
                    args=(
                        getattr(process, name),
                        name,
                        output,
                        urn,
                        logged in (name, "stdoutAndStderr"),
                    ),
                )
                for name in ("stdout", "stderr")
            ),
        ]
        for thread in threads:
            thread.start()
        try:
            status = process.wait(timeout=limit_s or None)
        except subprocess.TimeoutExpired:
            _end(process)
            status = process.wait()
        for thread in threads:
            thread.join()
        return status

    def _copy(self, pipe: IO[str], stream: str, output: Output, urn: Urn, logged: bool) -> None:
        with pipe:
            for line in pipe:
                output.add(stream, line)
                if logged and line.strip():
                    self._log.info(urn, line.rstrip("\n"))


def _inherited() -> dict[str, str]:
    """The engine's environment, without what only the stand-in's own wrapper set."""
    own = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    return {
        key: value
        for key, value in os.environ.items()
        if own.get(key) != value and not key.startswith("STANDIN_")
    }


def _write(pipe: IO[str], text: str) -> None:
    try:
        pipe.write(text)
        pipe.close()
    except BrokenPipeError:  # it reads nothing; that is its right
        return


def _end(process: subprocess.Popen[str]) -> None:
    """TERM to the script and its children, then KILL."""
    for number, wait_s in ((signal.SIGTERM, END_WITHIN_S), (signal.SIGKILL, END_WITHIN_S)):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=wait_s)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _problem(key: str, value: Any) -> str:
    if key in UNSUPPORTED:
        return f"the stand-in does not know {key}; the real provider does"
    if key not in INPUTS:
        return f"Unrecognized field '{key}'"
    if has_unknown(value):
        return ""
    if key in TEXTS and not isinstance(value, str):
        return f"Field '{key}' must be a 'string' type"
    if key in FLAGS and not isinstance(value, bool):
        return f"Field '{key}' must be a 'bool' type"
    if key in LISTS and not (isinstance(value, list) and all(isinstance(v, str) for v in value)):
        return f"Field '{key}' must be a list of 'string'"
    if key == "environment" and not isinstance(value, dict):
        return f"Field '{key}' must be a map of 'string'"
    if key == "logging" and value not in LOGGING:
        return f"Field 'logging' must be one of {', '.join(LOGGING)}, got {value}"
    return ""
