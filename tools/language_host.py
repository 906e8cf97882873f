"""`pulumi-language-python` for engines that have no language host of their own beside them.

An official Pulumi installation brings the real one; this one stands in for it where the engine was
built from source. It runs the project's `__main__.py` with the interpreter that runs this file, and
starts policy packs. It ignores `runtime` options.
"""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import grpc
from pulumi import log
from pulumi.automation._server import LanguageServer
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

WORKERS = 8
POLL_S = 2.0  # how often to look whether the engine still lives


class EngineLog:
    """A text stream whose lines go to the engine's log, as the real host's do."""

    encoding = "utf-8"

    def __init__(self, fallback: TextIO) -> None:
        self._fallback, self._rest = fallback, ""
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._emit(line)
        return len(text)

    def flush(self) -> None:
        """Lines are sent when they are complete; `finish` sends what is left."""

    def finish(self) -> None:
        """Send the last line even if it does not end in a newline."""
        with self._lock:
            line, self._rest = self._rest, ""
        if line:
            self._emit(line)

    def isatty(self) -> bool:
        return False

    def _emit(self, line: str) -> None:
        try:
            log.info(line)
        except Exception as error:  # the engine is gone: say it where somebody may look
            print(f"{line} ({error})", file=self._fallback)


def program() -> None:
    """Run the project's program in this process."""
    directory = Path.cwd()
    sys.path.insert(0, str(directory))
    runpy.run_path(str(directory / "__main__.py"), run_name="__main__")


class Host(LanguageServer):
    """Pulumi's LanguageRuntime service."""

    def __init__(self) -> None:
        super().__init__(program)

    def GetPluginInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        return plugin_pb2.PluginInfo(version=version("pulumi"))

    def Run(self, request: Any, context: Any) -> Any:  # noqa: N802
        os.chdir(request.info.program_directory or request.pwd)
        gc.disable()  # importing the SDK takes a fifth less CPU, and the process is soon over
        output = EngineLog(sys.__stderr__ or sys.stderr)
        with contextlib.redirect_stdout(output):
            result = super().Run(request, context)
            output.finish()
        if result.error:
            # Logged in full above; without `bail` the engine would print it once more.
            return language_pb2.RunResponse(bail=True)
        return result

    def RunPlugin(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        """Start a policy pack and pass on what it prints."""
        if request.kind != "analyzer":
            message = (
                f"this language host runs policy packs only, not a plugin of kind {request.kind!r}"
            )
            context.abort(grpc.StatusCode.UNIMPLEMENTED, message)
        directory = request.info.program_directory
        command = [sys.executable, "-u", "-m", "pulumi.policy", *request.args[:1], directory]
        environment = dict(entry.split("=", 1) for entry in request.env)
        with subprocess.Popen(
            command,
            cwd=request.pwd,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as pack:
            context.add_callback(pack.kill)
            yield from _output(pack)
            yield language_pb2.RunPluginResponse(exitcode=pack.wait())


def _output(pack: subprocess.Popen[bytes]) -> Iterator[Any]:
    """Both streams of a process, as they come."""
    lines: queue.Queue[Any] = queue.Queue()

    def copy(name: str, pipe: Any) -> None:
        for line in iter(pipe.readline, b""):
            lines.put(language_pb2.RunPluginResponse(**{name: line}))
        lines.put(None)

    pipes = {"stdout": pack.stdout, "stderr": pack.stderr}
    for name, pipe in pipes.items():
        threading.Thread(target=copy, args=(name, pipe), daemon=True).start()
    for _ in pipes:
        while (line := lines.get()) is not None:
            yield line


def main() -> None:
    """Serve until the engine sends SIGINT or SIGTERM, or is gone; then leave without a word."""
    server = grpc.server(ThreadPoolExecutor(WORKERS))
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(Host(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    server.start()
    print(port, flush=True)
    engine = os.getppid()
    while not done.wait(POLL_S):
        if os.getppid() != engine:
            break
    # The program's threads may still wait for an engine that has gone: nobody reads their result.
    server.stop(0.2)
    os._exit(0)


if __name__ == "__main__":
    main()
