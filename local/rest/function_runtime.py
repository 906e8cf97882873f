"""A deployed function: one functions-framework process, and the requests on their way to it."""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import urllib3
from flask import Request, Response

from local.children import Child, Children, free_port, wait_for_port
from local.rest.function_metadata import FunctionMetadata
from local.rest.identity import Principal
from local.rest.words import words
from local.rest.world import World

Emulator = Callable[[Principal], tuple[str, Callable[[], None]]]
"""Opens a storage door whose calls without a token are this principal's: (host:port, its end)."""

HOST = "127.0.0.1"
MAIN = Path(__file__).with_name("function_main.py")
CHECKOUT = Path(__file__).resolve().parents[2]
# Google's clients look some things up at fixed addresses, whatever endpoint they are given.
LOOPBACK_ONLY = {
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1,localhost",
}
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
START_LIMIT_S = 30.0
GRACE_S = 10.0  # Cloud Run's own, between SIGTERM and SIGKILL
HOP = frozenset(
    words("connection keep-alive transfer-encoding te trailer upgrade host content-length")
)


class StartupError(Exception):
    """The container did not start; the message is Cloud Run's, with the log's last lines."""


@dataclass(frozen=True)
class Surroundings:
    """What a revision is started in. source: its files. platform: the environment it is given."""

    children: Children
    source: Path
    platform: Mapping[str, str]
    emulator: Emulator | None = None


class FunctionRuntime:
    """One revision. Started by the constructor; `stop` ends it and everything it started.

    An instance that died is replaced when the next request comes, as on Cloud Run.
    """

    def __init__(self, world: World, function: Mapping[str, Any], around: Surroundings) -> None:
        source, platform = around.source, dict(around.platform)
        service = function["serviceConfig"]
        self.name = service["service"].rsplit("/", 1)[1]
        self.timeout_s = float(service.get("timeoutSeconds", 60))
        self._slots = threading.BoundedSemaphore(_capacity(service))
        self._pool = urllib3.PoolManager(maxsize=32, retries=False)
        region = function["name"].split("/")[3]
        email = service["serviceAccountEmail"]
        self._metadata = FunctionMetadata(world, email, region)
        self._children = around.children
        self._ends = ExitStack()
        if around.emulator:
            host, stop = around.emulator(Principal(email, "serviceAccount"))
            self._ends.callback(stop)
            platform["STORAGE_EMULATOR_HOST"] = host
        self._directory = source.parent
        self._scratch = Path(tempfile.mkdtemp(dir=platform.get("TMPDIR", source.parent)))
        self._port = free_port()
        self._instance = partial(self._start, function, source, platform)
        self.child = self._instance()

    def _start(
        self, function: Mapping[str, Any], source: Path, platform: Mapping[str, str]
    ) -> Child:
        home = source.parent / "home"
        home.mkdir(parents=True, exist_ok=True)
        env = (
            LOOPBACK_ONLY
            | dict(platform)
            | {
                "PATH": SYSTEM_PATH,
                "HOME": str(home),
                "TMPDIR": str(self._scratch),
                "LANG": "C.UTF-8",
                "PYTHONUNBUFFERED": "1",
                "PYTHONDONTWRITEBYTECODE": "1",
                "GCE_METADATA_HOST": self._metadata.host,
                "GCE_METADATA_IP": self._metadata.host,
                "FUNCTION_TARGET": function["buildConfig"]["entryPoint"],
                "FUNCTION_SIGNATURE_TYPE": "http",
                "K_SERVICE": self.name,
                "K_CONFIGURATION": self.name,
                "K_REVISION": function["serviceConfig"]["revision"],
                "PORT": str(self._port),
            }
        )
        env |= function["serviceConfig"].get("environmentVariables", {})
        command = [sys.executable, "-I", str(MAIN), str(CHECKOUT), str(self._port)]
        child = self._children.start(
            f"function-{self.name}", command, env=env, cwd=source, grace_s=GRACE_S
        )
        if not wait_for_port(self._port, child, START_LIMIT_S):
            text = child.log_tail()
            self._metadata.stop()
            self._ends.close()
            self._children.stop(child, grace_s=0.1)
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise StartupError(
                f"Could not create or update Cloud Run service {self.name}, Container "
                "Healthcheck failed. Revision "
                f"'{env['K_REVISION']}' is not ready and cannot serve traffic. The "
                "user-provided container failed to "
                f"start and listen on the port defined provided by the PORT={self._port} "
                "environment variable within "
                "the allocated timeout. Logs for this revision might contain more "
                f"information.\n{text}"
            )
        return child

    def handle(self, request: Request, path: str) -> Response:
        """Pass one request on: 429 when all instances are busy, 504 after the timeout."""
        if not self._slots.acquire(blocking=False):
            return Response("Rate exceeded.", 429, content_type="text/html")
        try:
            if not self.child.alive:
                self._pool.clear()
                self.child = self._instance()
            return self._forward(request, path)
        except StartupError as error:
            return Response(str(error), 503, content_type="text/plain")
        except urllib3.exceptions.TimeoutError:
            return Response("upstream request timeout", 504, content_type="text/plain")
        except urllib3.exceptions.HTTPError as error:
            text = f"upstream connect error or disconnect/reset before headers: {error}"
            return Response(text, 503, content_type="text/plain")
        finally:
            self._slots.release()

    def _forward(self, request: Request, path: str) -> Response:
        headers = {k: v for k, v in request.headers if k.lower() not in HOP}
        # Cloud Run shows the function who called, not a token it could use elsewhere.
        if "Authorization" in headers:
            signed = headers["Authorization"].rpartition(".")[0]
            headers["Authorization"] = f"{signed}.SIGNATURE_REMOVED_BY_GOOGLE"
        query = request.query_string.decode()
        answer = self._pool.request(
            request.method,
            f"http://{HOST}:{self._port}/{path}" + (f"?{query}" if query else ""),
            body=request.get_data(),
            headers=headers,
            redirect=False,
            timeout=urllib3.Timeout(connect=5, read=self.timeout_s),
        )
        kept = {k: v for k, v in answer.headers.items() if k.lower() not in HOP}
        return Response(answer.data, answer.status, kept)

    def stop(self) -> None:
        self._pool.clear()  # an idle connection would hold up its graceful end
        self._children.stop(self.child, grace_s=GRACE_S)
        self._metadata.stop()
        self._ends.close()
        shutil.rmtree(self._directory, ignore_errors=True)
        shutil.rmtree(self._scratch, ignore_errors=True)


def _capacity(service: Mapping[str, Any]) -> int:
    """Requests at once: what one instance takes, times how many there may be."""
    instances = service.get("maxInstanceCount") or 100
    return int(service.get("maxInstanceRequestConcurrency", 1)) * int(instances)
