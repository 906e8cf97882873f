"""HTTP to the REST API: tokens, retries, and Google's errors in the words of Google's own
clients."""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .messages import RefusedError
from .settings import Settings

RETRIED = frozenset({429, 500, 502, 503})
# Each wait is the sum of the last two. Three rounds: 32 tries in about 330 s.
ROUND_S = (0.5, 1.0, 1.5, 2.5, 4.0, 6.5, 10.5, 17.0, 27.5, 44.5)
WAITS_S = (*ROUND_S, 5.0, *ROUND_S, 5.0, *ROUND_S[:-1])
TIMEOUT_S = 120.0
Sleep = Callable[[float], None]


class ApiError(Exception):
    """Google answered with an error; the text is what Google's Go client makes of it."""

    def __init__(self, status: int, body: Any, raw: str = "") -> None:
        self.status, self.raw = status, raw
        error = body.get("error") if isinstance(body, dict) else None
        self.error: dict[str, Any] = error if isinstance(error, dict) else {}
        super().__init__(self._text())

    @property
    def reasons(self) -> list[str]:
        return [str(item.get("reason", "")) for item in self.error.get("errors", [])]

    def _text(self) -> str:
        errors, message = self.error.get("errors") or [], self.error.get("message", "")
        if not errors and not message:
            return f"googleapi: got HTTP response code {self.status} with body: {self.raw}"
        text = f"googleapi: Error {self.status}: {message}"
        if details := self.error.get("details"):
            text += "\nDetails:\n" + json.dumps(details, indent=2, sort_keys=True) + "\n"
        if not errors:
            return text.strip()
        if len(errors) == 1 and errors[0].get("message") == message:
            return f"{text}, {errors[0].get('reason', '')}"
        lines = [
            f"Reason: {e.get('reason', '')}, Message: {e.get('message', '')}\n" for e in errors
        ]
        return text + "\nMore details:\n" + "".join(lines)


class TransportError(Exception):
    """No answer came; worded as Go words it."""


@dataclass(frozen=True)
class Call:
    """One request. `library`: made by a generated client, which asks for compact answers."""

    service: str
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    library: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    media: bytes | None = None
    raw: bool = False


@dataclass
class _Answer:
    status: int
    data: bytes

    def parsed(self) -> Any:
        try:
            return json.loads(self.data) if self.data else {}
        except ValueError:
            return {}


class Client:
    """All calls of one configured provider; safe for threads."""

    def __init__(self, settings: Settings, sleep: Sleep = time.sleep) -> None:
        self.settings, self._sleep = settings, sleep
        self._token, self._token_until = "", 0.0
        self._lock = threading.Lock()

    def wait(self, seconds: float) -> None:
        """Wait as the real provider does, times the scale."""
        self._sleep(seconds * self.settings.wait_scale)

    def call(self, call: Call) -> Any:
        """The answer as JSON (bytes when `raw`). Raises ApiError, TransportError or
        RefusedError."""
        url = self._url(call)
        for wait_s in (*WAITS_S, None):
            answer = self._send(call, url)
            if answer.status < 300:
                return answer.data if call.raw else answer.parsed()
            error = ApiError(answer.status, answer.parsed(), answer.data.decode(errors="replace"))
            if wait_s is None or not _is_retried(error):
                raise error
            self.wait(wait_s)
        raise AssertionError("the last try has no wait")

    def _url(self, call: Call) -> str:
        base = self.settings.endpoint(call.service)
        if call.media is not None:  # uploads live at the root of the same host
            parts = urllib.parse.urlsplit(base)
            base = f"{parts.scheme}://{parts.netloc}/upload/storage/v1/"
        query = {"alt": "json", **call.query}
        if call.library:
            query["prettyPrint"] = "false"
        return f"{base}{call.path}?{urllib.parse.urlencode(sorted(query.items()))}"

    def _send(self, call: Call, url: str) -> _Answer:
        parts = urllib.parse.urlsplit(url)
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        data = call.media
        headers = {"Authorization": f"Bearer {self.token()}", "User-Agent": "Terraform/stand-in"}
        if data is None and call.body is not None:
            data = json.dumps(call.body).encode()
        if call.media is None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(
                call.method, f"{parts.path}?{parts.query}", data, {**headers, **call.headers}
            )
            response = connection.getresponse()
            return _Answer(response.status, response.read())
        except (OSError, http.client.HTTPException) as error:
            raise TransportError(_go_error(call.method, url, error)) from error
        finally:
            connection.close()

    def token(self) -> str:
        """The access token given, else the metadata server's for the machine that we run on."""
        if self.settings.token:
            return self.settings.token
        with self._lock:
            if time.monotonic() >= self._token_until:
                self._token, self._token_until = self._from_metadata()
            return self._token

    def _from_metadata(self) -> tuple[str, float]:
        host = self.settings.metadata_host
        if not host:
            raise RefusedError(
                "no Google credentials: neither GOOGLE_OAUTH_ACCESS_TOKEN nor "
                "GCE_METADATA_HOST is set. "
                "Nothing was sent. Source the exports of a local cloud (mayfly local up)"
            )
        path = "/computeMetadata/v1/instance/service-accounts/default/token"
        connection = http.client.HTTPConnection(host, timeout=10)
        try:
            connection.request("GET", path, headers={"Metadata-Flavor": "Google"})
            answer = connection.getresponse()
            data = json.loads(answer.read())
            return data["access_token"], time.monotonic() + float(data.get("expires_in", 60)) - 30
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            raise RefusedError(
                f"no Google credentials: the metadata server at {host} gave no token ({error})"
            ) from error
        finally:
            connection.close()


def _is_retried(error: ApiError) -> bool:
    if error.status in RETRIED:
        return True
    if error.status == 409:
        return "operationInProgress" in error.reasons
    return error.status == 400 and "resourceNotReady" in error.reasons


def _go_error(method: str, url: str, error: Exception) -> str:
    verb = method.capitalize()
    host = urllib.parse.urlsplit(url).netloc
    if isinstance(error, ConnectionRefusedError):
        return f'{verb} "{url}": dial tcp {host}: connect: connection refused'
    if isinstance(error, (http.client.RemoteDisconnected, http.client.IncompleteRead)):
        return f'{verb} "{url}": EOF'
    if isinstance(error, ConnectionResetError):
        return f'{verb} "{url}": read tcp {host}: read: connection reset by peer'
    if isinstance(error, TimeoutError):
        return f'{verb} "{url}": net/http: timeout awaiting response headers'
    return f'{verb} "{url}": {error}'
