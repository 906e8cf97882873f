"""One OpenAI-compatible endpoint, as the inference test and the benchmark see it."""

import argparse
import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests

DEFAULT_URL = "http://127.0.0.1:8000/v1"
CONNECT_TIMEOUT_S = 10


class EndpointError(Exception):
    """The endpoint answered something else than what was asked for, or not at all."""


@dataclass(frozen=True)
class Endpoint:
    """url: the base, ends in /v1. key: sent as a bearer token, "" for none. timeout_s: silence."""

    url: str
    key: str
    timeout_s: float = 120

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def address(self, path: str) -> str:
        """path: below the base URL; with a leading slash, below the server's root."""
        base = self.url.rstrip("/")
        return base.removesuffix("/v1") + path if path[0] == "/" else f"{base}/{path}"

    def path(self, path: str) -> str:
        """The same without scheme and host, as a request line has it."""
        return urlsplit(self.address(path)).path

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """One request; whatever status comes back is returned. Raises EndpointError."""
        address = self.address(path)
        try:
            return requests.request(
                method,
                address,
                headers=self.headers(),
                timeout=(CONNECT_TIMEOUT_S, self.timeout_s),
                **options,
            )
        except requests.RequestException as error:
            raise EndpointError(f"{method} {address}: {error}") from error

    def json(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The JSON of a 200. Raises EndpointError naming status and body otherwise."""
        response = self.call(method, path, json=body)
        if response.status_code != 200:
            raise EndpointError(refusal(response))
        try:
            answer = response.json()
        except ValueError as error:
            raise EndpointError(f"{path}: not JSON: {response.text[:200]}") from error
        if not isinstance(answer, dict):
            raise EndpointError(f"{path}: not a JSON object: {response.text[:200]}")
        return answer

    def first_model(self) -> str:
        """The id of the first model served."""
        models = self.json("GET", "models").get("data") or []
        if not models:
            raise EndpointError("the endpoint serves no model")
        return str(models[0]["id"])


def refusal(response: requests.Response) -> str:
    """A status and the start of its body, on one line."""
    return f"HTTP {response.status_code}: {one_line(response.text)}"


def one_line(text: str) -> str:
    return " ".join(text.split())[:200]


def endpoint_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that name an endpoint."""
    environ = os.environ
    parser.add_argument(
        "--url",
        default=environ.get("OPENAI_BASE_URL") or DEFAULT_URL,
        help=f"base URL ending in /v1 (default: $OPENAI_BASE_URL or {DEFAULT_URL})",
    )
    parser.add_argument(
        "--key",
        default=environ.get("OPENAI_API_KEY") or "",
        help="API key (default: $OPENAI_API_KEY, which no process list shows)",
    )
    parser.add_argument("--model", default="", help="served name (default: the first one served)")
    parser.add_argument(
        "--timeout-s", type=positive(float), default=120, help="longest silence, seconds"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object only")


def positive(kind: type[int] | type[float]) -> Any:
    """An argparse type: a number above zero."""

    def parse(text: str) -> float:
        number = kind(text)
        if not 0 < number < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not above zero")
        return number

    parse.__name__ = kind.__name__
    return parse
