"""One HTTP session: authorized, timed out, counted, and retried where a repeat does no harm."""

import os
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import requests
from requests.adapters import HTTPAdapter

from mayfly.cloud.errors import (
    NO_CREDENTIALS,
    NOT_JSON,
    PASSING,
    UNREACHABLE,
    CloudError,
    refusal,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
PARALLEL_CONNECTIONS = 32


@dataclass(frozen=True)
class Retry:
    """How often a call that may be repeated is tried, and the first wait; each wait doubles.

    answer_s: how long Google may be silent before a try has failed.
    """

    tries: int = 4
    first_delay_s: float = 0.5
    answer_s: float = READ_TIMEOUT_S


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request. repeatable: doing it twice leaves what doing it once leaves.

    data: bytes, or a file that is streamed. page: it reads one page of a list. headers: beside the
    content's type.
    """

    method: str
    url: str
    params: "Mapping[str, str | int] | None" = None
    json: Any = None
    data: bytes | Path | None = None
    content_type: str | None = None
    headers: "Mapping[str, str] | None" = None
    stream: bool = False
    page: bool = False
    repeatable: bool = True

    def __str__(self) -> str:
        path = self.url.split("://", 1)[-1]
        return f"{self.method} {path}"


@dataclass(frozen=True)
class Answer:
    """A response, and whether an earlier try of the same call may already have worked."""

    response: requests.Response
    repeated: bool
    call: Call

    @property
    def missing(self) -> bool:
        """True for a 404."""
        return self.response.status_code == 404

    def json(self) -> Any:
        """The parsed body; CloudError when it is not JSON (a proxy's page, half an answer)."""
        try:
            return self.response.json()
        except ValueError as error:
            status, text = self.response.status_code, self.response.text
            raise CloudError(status, NOT_JSON, f"{self.call}: not JSON: {error}", text) from error


class Http:
    """Sends calls. Safe to share between threads."""

    def __init__(self, retry: Retry | None = None) -> None:
        self._session, self._credential_errors = _authorized_session()
        adapter = HTTPAdapter(pool_connections=4, pool_maxsize=PARALLEL_CONNECTIONS)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        self._retry = retry or Retry()
        self._count_lock = threading.Lock()
        self._calls = self._pages = 0

    @property
    def calls(self) -> int:
        """Requests sent so far, repeats included."""
        return self._calls

    @property
    def pages(self) -> int:
        """Those of them that asked for a page of a list."""
        return self._pages

    def send(self, call: Call, *, allow: frozenset[int] = frozenset()) -> Answer:
        """Send one call. A status of 400 or more raises CloudError, unless `allow` holds it."""
        tries = self._retry.tries if call.repeatable else 1
        delay_s = self._retry.first_delay_s
        for attempt in range(1, tries + 1):
            try:
                response = self._once(call)
            except CloudError as error:
                if error.reason != UNREACHABLE or attempt == tries:
                    raise
            else:
                status = response.status_code
                if status < 400 or status in allow:
                    return Answer(response, attempt > 1, call)
                if status not in PASSING or attempt == tries:
                    raise refusal(str(call), status, response.text)
                response.close()  # nobody has read a stream's body: it would keep its socket
            time.sleep(delay_s * random.uniform(0.75, 1.25))
            delay_s *= 2
        raise AssertionError("a call is tried at least once")

    def _once(self, call: Call) -> requests.Response:
        with self._count_lock:
            self._calls += 1
            self._pages += call.page
        if isinstance(call.data, Path):
            with call.data.open("rb") as file:
                return self._sent(call, file)
        return self._sent(call, call.data)

    def _sent(self, call: Call, data: bytes | BinaryIO | None) -> requests.Response:
        headers = dict(call.headers or {})
        if call.content_type:
            headers["Content-Type"] = call.content_type
        try:
            return self._session.request(
                call.method,
                call.url,
                params=call.params,
                json=call.json,
                data=data,
                headers=headers,
                stream=call.stream,
                timeout=(CONNECT_TIMEOUT_S, self._retry.answer_s),
            )
        except requests.RequestException as error:
            raise CloudError(0, UNREACHABLE, f"{call}: no answer: {error}") from error
        except self._credential_errors as error:
            raise _no_credentials(error) from error


def _authorized_session() -> tuple[requests.Session, tuple[type[Exception], ...]]:
    """A session that signs each request, and what it raises when it cannot.

    A token in GOOGLE_OAUTH_ACCESS_TOKEN comes first, as in the Google provider. google.auth is
    imported only without one: it costs a command a quarter of a second.
    """
    session = requests.Session()
    token = os.environ.get("GOOGLE_OAUTH_ACCESS_TOKEN")
    if token:
        session.auth = _Bearer(token)
        return session, ()
    _one_metadata_server()
    import google.auth
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import Request

    try:
        credentials, _ = google.auth.default(scopes=[SCOPE])
    except GoogleAuthError as error:
        raise _no_credentials(error) from error
    session.auth = _Signed(credentials, Request())
    return session, (GoogleAuthError,)


def _one_metadata_server() -> None:
    """Where GCE_METADATA_HOST is set, google.auth must ask there and nowhere else.

    Google's Go libraries need only that variable. google.auth first probes the link-local address,
    unless GCE_METADATA_IP moves that too.
    """
    host = os.environ.get("GCE_METADATA_HOST")
    if host:
        os.environ.setdefault("GCE_METADATA_IP", host)


class _Bearer(requests.auth.AuthBase):
    """Without an auth object `requests` would look into ~/.netrc for one."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _Signed(requests.auth.AuthBase):
    """Signs with google.auth's credentials, refreshed by one thread at a time.

    Not by its AuthorizedSession: that one asks iamcredentials.googleapis.com, in the background
    and with the token, where the account may be used (google-auth 2.62). No variable moves that
    call, so a local run would leave the machine.
    """

    def __init__(self, credentials: Any, request: Any) -> None:
        self._credentials, self._request = credentials, request
        self._mutex = threading.Lock()

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        with self._mutex:
            if not self._credentials.valid:
                self._credentials.refresh(self._request)
        self._credentials.apply(request.headers)
        return request


def _no_credentials(error: Exception) -> CloudError:
    message = f"No usable Google credentials: {' '.join(str(error).split())}"
    login = "Try: gcloud auth application-default login"
    return CloudError(401, NO_CREDENTIALS, message, remedy=login)
