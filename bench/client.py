"""One OpenAI-compatible endpoint, as the inference test and the benchmark see it."""

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import requests

DEFAULT_URL = "http://127.0.0.1:8000/v1"
CONNECT_TIMEOUT_S = 10
# What a chunk's delta may carry of the answer; servers name the thinking either way.
TOKEN_PARTS = ("content", "reasoning", "reasoning_content", "tool_calls")


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

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """One request; whatever status comes back is returned. Raises EndpointError.

        path: below the base URL; with a leading slash, below the server's root.
        """
        base = self.url.rstrip("/")
        address = base.removesuffix("/v1") + path if path[0] == "/" else f"{base}/{path}"
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
    return f"HTTP {response.status_code}: {' '.join(response.text.split())[:200]}"


@dataclass
class Stream:
    """What one streamed chat brought. Times are seconds since the request was sent.

    arrivals_s: one entry a chunk that carried text, reasoning or part of a tool call. A chunk
    may carry several tokens, so tokens come from `usage`, never from counting chunks.
    """

    arrivals_s: list[float] = field(default_factory=list)
    text: str = ""
    finish_reason: str = ""
    usage: dict[str, Any] | None = None


def stream_chat(endpoint: Endpoint, body: dict[str, Any]) -> Stream:
    """Stream one chat to its end. Raises EndpointError when it is refused, garbled or cut short."""
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    start = time.perf_counter()
    response = endpoint.call("POST", "chat/completions", json=asked, stream=True)
    with response:
        if response.status_code != 200:
            raise EndpointError(refusal(response))
        stream = Stream()
        try:
            for event in events(response):
                take(stream, event, time.perf_counter() - start)
        except requests.RequestException as error:
            raise EndpointError(f"the stream broke: {error}") from error
    return stream


def events(response: requests.Response) -> Iterator[dict[str, Any]]:
    """The JSON of each server-sent event. Raises EndpointError if the final [DONE] is missing."""
    for line in response.iter_lines(chunk_size=1):
        if not line.startswith(b"data:"):
            continue
        data = line[len(b"data:") :].strip()
        if data == b"[DONE]":
            return
        try:
            event = json.loads(data)
        except ValueError as error:
            raise EndpointError(f"not JSON in the stream: {data[:200]!r}") from error
        if not isinstance(event, dict) or "error" in event:
            raise EndpointError(f"an error in the stream: {data[:200]!r}")
        yield event
    raise EndpointError("the stream ended without [DONE]")


def take(stream: Stream, event: dict[str, Any], now_s: float) -> None:
    """Add one event to a stream."""
    stream.usage = event.get("usage") or stream.usage
    for choice in event.get("choices") or []:
        delta = choice.get("delta") or {}
        if any(delta.get(part) for part in TOKEN_PARTS):
            stream.arrivals_s.append(now_s)
        stream.text += delta.get("content") or ""
        stream.finish_reason = choice.get("finish_reason") or stream.finish_reason


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
