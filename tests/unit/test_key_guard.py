"""The key guard: --api-key alone leaves /invocations and more open to whoever is on the machine."""

import asyncio

import pytest

from startup.key_guard import KeyGuard

KEY = "k" * 32


@pytest.fixture
def ask(monkeypatch):
    """ask(path, *authorizations) -> status; 0 means that the application was reached."""
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    reached = []

    async def application(scope, receive, send):
        reached.append(scope["path"])

    guard = KeyGuard(application)

    def run(path, *given, kind="http"):
        sent = []

        async def send(message):
            sent.append(message)

        headers = [(b"authorization", value.encode()) for value in given]
        scope = {"type": kind, "path": path, "headers": headers, "method": "GET"}
        before = len(reached)
        asyncio.run(guard(scope, None, send))
        if len(reached) > before:
            assert sent == []
            return 0
        return sent[0].get("status", sent[0].get("code"))

    return run


@pytest.mark.parametrize("path", ["/health", "/metrics"])
def test_guard_lets_through_without_a_key_when_the_path_is_open(ask, path):
    """The watchdog and the stages look there."""
    assert ask(path) == 0


@pytest.mark.parametrize(
    "path",
    ["/v1/chat/completions", "/invocations", "/tokenize", "/health/", "//health", "/metrics/../v1"],
)
def test_guard_refuses_when_there_is_no_key(ask, path):
    """Full inference lies behind some of these."""
    assert ask(path) == 401


@pytest.mark.parametrize(
    "given", ["", KEY, f"bearer {KEY}", f"Bearer {KEY}x", "Bearer ", "Basic x"]
)
def test_guard_refuses_when_the_key_is_wrong(ask, given):
    """Almost the key is not the key."""
    assert ask("/v1/models", given) == 401


def test_guard_lets_through_when_the_key_is_right(ask):
    """And only then."""
    assert ask("/invocations", f"Bearer {KEY}") == 0


def test_guard_refuses_when_two_keys_are_given(ask):
    """Which of them counts would be a guess."""
    assert ask("/v1/models", f"Bearer {KEY}", f"Bearer {KEY}") == 401


def test_guard_closes_a_websocket_when_there_is_no_key(ask):
    """/v1/realtime is one."""
    assert ask("/health", kind="websocket") == 1008


def test_guard_refuses_to_start_when_no_key_is_set(monkeypatch):
    """No key must not mean no guard."""
    monkeypatch.delenv("VLLM_API_KEY", raising=False)

    with pytest.raises(RuntimeError, match="VLLM_API_KEY is not set"):
        KeyGuard(lambda *_: None)
