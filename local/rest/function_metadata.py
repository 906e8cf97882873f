"""The metadata server that a function sees: its identity, as Cloud Run gives it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from local.rest.world import World

HOST = "127.0.0.1"
PREFIX = "/computeMetadata/v1/"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
LIFETIME_S = 3600
POLL_S = 0.05


class FunctionMetadata:
    """One listener for one service account: `host` goes into GCE_METADATA_HOST."""

    def __init__(self, world: World, email: str, region: str) -> None:
        self._world, self._email, self._region = world, email, region
        answers = self._answers()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                _answer(self, answers)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self.host = f"{HOST}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(POLL_S,), daemon=True).start()

    def _answers(self) -> dict[str, Callable[[dict[str, list[str]]], str]]:
        world, account = self._world, f"instance/service-accounts/{self._email}"
        number = world.project_number
        answers: dict[str, Callable[[dict[str, list[str]]], str]] = {
            "project/project-id": lambda q: world.project,
            "project/numeric-project-id": lambda q: number,
            "instance/region": lambda q: f"projects/{number}/regions/{self._region}",
            "instance/zone": lambda q: f"projects/{number}/zones/{self._region}-1",
            "instance/id": lambda q: "00" + number,
            "instance/service-accounts/": lambda q: f"default/\n{self._email}/\n",
            "universe/universe-domain": lambda q: "googleapis.com",
        }
        for name in ("instance/service-accounts/default", account):
            answers |= {
                f"{name}/": self._account,
                f"{name}/email": lambda q: self._email,
                f"{name}/scopes": lambda q: SCOPE,
                f"{name}/token": self._token,
                f"{name}/identity": self._identity,
            }
        return answers

    def _account(self, query: dict[str, list[str]]) -> str:
        return json.dumps({"aliases": ["default"], "email": self._email, "scopes": [SCOPE]})

    def _token(self, query: dict[str, list[str]]) -> str:
        token = self._world.identity.mint(self._email, LIFETIME_S)
        return json.dumps(
            {"access_token": token, "expires_in": LIFETIME_S - 1, "token_type": "Bearer"}
        )

    def _identity(self, query: dict[str, list[str]]) -> str:
        return self._world.identity.mint_id_token(self._email, query["audience"][0], LIFETIME_S)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _answer(
    request: BaseHTTPRequestHandler, answers: dict[str, Callable[[dict[str, list[str]]], str]]
) -> None:
    url = urlsplit(request.path)
    status, text = 404, "Not Found"
    if request.headers.get("X-Forwarded-For") or (
        url.path != "/" and request.headers.get("Metadata-Flavor") != "Google"
    ):
        status, text = 403, "Missing Metadata-Flavor:Google header."
    elif url.path == "/":
        status, text = 200, "computeMetadata/\n"
    elif url.path.startswith(PREFIX):
        found = answers.get(url.path.removeprefix(PREFIX))
        if found:
            try:
                status, text = 200, found(parse_qs(url.query))
            except KeyError as error:
                status, text = 400, f"{error} is required"
    body = text.encode()
    request.send_response(status)
    request.send_header("Metadata-Flavor", "Google")
    kind = "application/json" if text.startswith("{") else "application/text"
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
