"""No way around the key: every route of vLLM 0.24.0, every method, and paths that play tricks."""

import socket

import pytest

from local import checkpoint
from tests.machine.vllm_server import KEY, KIMI, serving

GUARD = ["--middleware", "startup.key_guard.KeyGuard", "--disable-fastapi-docs"]
# What the real server listed at its start, and what its development mode would add.
ROUTES = [
    *("/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc", "/load", "/version", "/ping"),
    *("/tokenize", "/detokenize", "/invocations", "/generative_scoring", "/inference/v1/generate"),
    *("/scale_elastic_ep", "/is_scaling_elastic_ep", "/v1/models", "/v1/responses", "/v1/messages"),
    *("/v1/responses/resp_1", "/v1/responses/resp_1/cancel", "/v1/messages/count_tokens"),
    *("/v1/chat/completions", "/v1/chat/completions/batch", "/v1/chat/completions/render"),
    *("/v1/chat/completions/derender", "/v1/completions", "/v1/completions/render"),
    *("/v1/completions/derender", "/v1/realtime", "/v1/load_lora_adapter"),
    *("/server_info", "/sleep", "/wake_up", "/is_sleeping", "/reset_prefix_cache", "/pause"),
    *("/collective_rpc", "/update_weights", "/start_profile", "/", "/v2/x", "/nowhere", "*"),
]
METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "BREW"]
TRICKS = [
    *("//health", "/health/", "/health/../v1/models", "/health/..%2fv1/models", "/health%2f"),
    *("/health%2f..%2fversion", "/health;/version", "/./health", "/metrics/", "/metrics/x"),
    *("/metrics/../version", "/Health", "/health%00", "/health%20", "/%2fhealth", "/health%3f"),
    *("/v1/../metrics/../version", "/version?/health", "/version#/health", "/version?path=/health"),
    "/invocations/%2e%2e/health",
    "http://127.0.0.1/version",
]
OPEN = ["/health", "/metrics", "/health?x=1", "/%68ealth"]
SPOOFS = {
    "X-Original-URL": "/health",
    "X-Rewrite-URL": "/health",
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Prefix": "/health",
    "Api-Key": KEY,
    "X-Api-Key": KEY,
    "Cookie": f"authorization=Bearer {KEY}",
    "Proxy-Authorization": f"Bearer {KEY}",
}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
REFUSED = 401
BODY = b'{"model": "kimi-k2.5", "prompt": "x", "messages": [{"role": "user", "content": "x"}]}'


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoint.make(tmp_path_factory.mktemp("model"), 16)


@pytest.fixture(scope="module")
def guarded(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("guarded")
    with serving(model, folder, [*KIMI, *GUARD], VLLM_API_KEY=KEY) as running:
        yield running


@pytest.fixture(scope="module")
def unguarded(model, tmp_path_factory):
    """The twin: vLLM's own key alone."""
    folder = tmp_path_factory.mktemp("unguarded")
    with serving(model, folder, KIMI, VLLM_API_KEY=KEY) as running:
        yield running


def status(server, method, target, headers=None):
    """Of one request, sent as it is: no library may tidy up its path."""
    fields = {"Host": "127.0.0.1", "Content-Type": "application/json", **(headers or {})}
    fields |= {"Content-Length": str(len(BODY))}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        connection.sendall(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + BODY)
        line = connection.makefile("rb").readline().decode()
    return int(line.split()[1])


def answered(server, requests):
    """Those that got anything but a refusal. 400: the server could not even read it."""
    return [
        (method, target, found)
        for method, target in requests
        if (found := status(server, method, target)) not in (REFUSED, 400)
    ]


def test_no_route_answers_when_there_is_no_key(guarded):
    """vLLM's own key guards /v1 only: full inference is open beside it."""
    assert answered(guarded, [(m, path) for path in ROUTES for m in ("GET", "POST")]) == []


def test_no_method_answers_when_there_is_no_key(guarded):
    """OPTIONS passes vLLM's own guard; others may pass the next."""
    targets = ("/invocations", "/tokenize", "/v1/models", "/version")
    assert answered(guarded, [(method, path) for method in METHODS for path in targets]) == []


@pytest.mark.parametrize("target", TRICKS)
def test_no_trick_answers_when_there_is_no_key(guarded, target):
    """What the guard reads must be what the router reads."""
    assert answered(guarded, [("GET", target), ("POST", target)]) == []


@pytest.mark.parametrize("name", SPOOFS)
def test_no_header_takes_the_place_of_the_key(guarded, name):
    """Only Authorization counts, and a proxy's word about the path does not."""
    assert status(guarded, "POST", "/tokenize", {name: SPOOFS[name]}) == REFUSED


def test_no_websocket_opens_when_there_is_no_key(guarded):
    """/v1/realtime speaks it; 403 is how a server closes one that it has not opened."""
    for path in ("/v1/realtime", "/health", "/metrics"):
        found = status(guarded, "GET", path, UPGRADE)
        assert found in (REFUSED, 403) or (path != "/v1/realtime" and found == 200), path


@pytest.mark.parametrize("target", OPEN)
def test_health_and_metrics_answer_when_there_is_no_key(guarded, target):
    """The watchdog has none."""
    assert status(guarded, "GET", target) == 200


def test_every_route_is_reached_when_the_key_is_given(guarded):
    """The guard must not be closed to everybody."""
    key = {"Authorization": f"Bearer {KEY}"}

    assert status(guarded, "GET", "/v1/models", key) == 200
    assert status(guarded, "POST", "/invocations", key) == 200
    assert status(guarded, "GET", "/version", key) == 200


@pytest.mark.parametrize(
    ("method", "target"),
    [("POST", "/invocations"), ("POST", "/tokenize"), ("GET", "/version"), ("GET", "/load")],
)
def test_vllm_answers_without_a_key_when_our_guard_is_missing(unguarded, method, target):
    """The twin: what it is there for, as measured with the real one."""
    assert answered(unguarded, [(method, target)])
