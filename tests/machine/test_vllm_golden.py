"""The stand-in vLLM against a recording of the real 0.24.0 (collected where it is at hand)."""

import json
import re

import pytest

from local import checkpoint
from tests.conftest import SHARED
from tests.machine.vllm_server import KEY, serving

GOLDEN = SHARED / "golden/vllm-0.24.0"
CHAT = {"model": "kimi-k2.5", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 16}
RECORDED = json.loads((GOLDEN / "responses.json").read_text())
REQUESTS = {
    "chat": ("/v1/chat/completions", CHAT, KEY),
    "chat no key": ("/v1/chat/completions", CHAT, None),
    "chat wrong key": ("/v1/chat/completions", CHAT, "nope"),
    "wrong model": ("/v1/chat/completions", {**CHAT, "model": "nope"}, KEY),
    "too long": ("/v1/chat/completions", {**CHAT, "max_tokens": 40000}, KEY),
    "bad json type": ("/v1/chat/completions", {**CHAT, "temperature": "hot"}, KEY),
    "no messages": ("/v1/chat/completions", {"model": "kimi-k2.5"}, KEY),
    "unknown field": ("/v1/chat/completions", {**CHAT, "frobnicate": 1}, KEY),
    "completions": (
        "/v1/completions",
        {"model": "kimi-k2.5", "prompt": "the quick", "max_tokens": 8},
        KEY,
    ),
    "tokenize": ("/tokenize", {"model": "kimi-k2.5", "prompt": "the quick"}, None),
    "unknown path": ("/v1/nope", {}, KEY),
}
PATHS = ("/health", "/ping", "/version", "/v1/models", "/load", "/tokenize", "/server_info")
EXACT = ("chat no key", "wrong model", "too long", "bad json type", "no messages", "unknown path")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    model = checkpoint.make(tmp_path_factory.mktemp("model"), 16)
    # No parsers, as in the recording: no reasoning, no tools.
    with serving(model, tmp_path_factory.mktemp("vllm"), ["--api-key", KEY]) as running:
        yield running


def shape(value):
    """Names and types, without the values; a list by its first entry."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


@pytest.mark.parametrize("name", REQUESTS)
def test_answer_has_the_recorded_status_headers_and_shape(server, name):
    """Clients are written against the real server."""
    status, headers, text = server.ask(REQUESTS[name][0], REQUESTS[name][1], key=REQUESTS[name][2])
    expected_status, expected_headers, expected_text, _ = RECORDED[name]

    assert status == expected_status
    ours = {key for key in headers if key != "date"}
    assert ours == set(expected_headers)
    assert shape(json.loads(text)) == shape(json.loads(expected_text))
    if name in EXACT:
        assert text == expected_text


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("key", [None, KEY])
def test_plain_path_answers_as_recorded(server, path, key):
    """Which paths are open is part of what the product defends against."""
    status, headers, text = server.ask(path, key=key)
    expected = RECORDED[f"GET {path} key={'yes' if key else 'no'}"]

    assert (status, headers.get("content-type")) == tuple(expected[:2])
    if text.startswith("{"):
        assert shape(json.loads(text)) == shape(json.loads(expected[2]))


def test_stream_has_the_recorded_events(server):
    """The first, middle, last and usage events differ in their fields."""
    body = {**CHAT, "max_tokens": 6, "stream": True, "stream_options": {"include_usage": True}}
    _, headers, text = server.ask("/v1/chat/completions", body)

    def kinds(stream):
        lines = [line.removeprefix("data: ") for line in stream.split("\n\n") if line]
        assert lines[-1] == "[DONE]"
        events = [shape(json.loads(line)) for line in lines[:-1]]
        return [events[0], events[1], events[-2], events[-1]]

    assert kinds(text) == kinds(RECORDED["chat stream usage"][2])
    assert headers["transfer-encoding"] == "chunked"


def names(text):
    """(metric, label names) of every sample."""
    found = set()
    for line in text.splitlines():
        match = re.match(r"([\w:]+)(?:\{(.*)\})? ", line)
        if match and not line.startswith("#"):
            labels = re.findall(r'(\w+)="', match[2] or "")
            found.add((match[1], tuple(sorted(labels))))
    return found


def test_metrics_have_the_recorded_names_and_labels(server):
    """The watchdog reads them by name; a dashboard by label."""
    server.chat(max_tokens=2)
    recorded = (GOLDEN / "metrics-busy.txt").read_text()
    ours = names(server.ask("/metrics")[2])

    vllm = {entry for entry in names(recorded) if entry[0].startswith("vllm:")}
    missing = {entry for entry in vllm - ours if entry[0] != "vllm:cache_config_info"}

    assert missing == set()
    assert {entry for entry in ours - vllm if entry[0].startswith("vllm:")} <= {
        entry for entry in ours if entry[0] == "vllm:cache_config_info"
    }


def test_histograms_have_the_recorded_buckets(server):
    """Percentiles are read off them."""

    def buckets(text):
        found = {}
        for line in text.splitlines():
            match = re.match(r'(vllm:\w+)_bucket\{.*le="([^"]+)"', line)
            if match:
                found.setdefault(match[1], []).append(match[2])
        return found

    assert buckets(server.ask("/metrics")[2]) == buckets((GOLDEN / "metrics-idle.txt").read_text())
