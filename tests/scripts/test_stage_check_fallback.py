"""A mode that fails its check is given up once: the stages' scripts against the stand-in vLLM."""

import json
import re

import pytest

from tests.machine.vllm_server import HOST
from tests.scripts.vllm_node import FAST, LONG


@pytest.fixture
def serve_and_check(vllm):
    """Stages 50 and 60; the second one's result. garbage_past: where DCP begins to garble."""

    def run(*, flags=LONG, safe=FAST, garbage_past=0):
        settings = {**HOST["settings"], "vllm_garbage_past": str(garbage_past)}
        vllm.environment |= {
            "MAYFLY_MODE": "long",
            "MAYFLY_SERVE_FLAGS": json.dumps(flags),
            "MAYFLY_SAFE_FLAGS": json.dumps(safe),
            "VLLM_MACHINE": json.dumps({**HOST, "settings": settings}),
        }
        vllm.serve()
        return vllm.run("60-check.sh")

    return run


@pytest.fixture
def node(vllm):
    return vllm.machine


def endpoint(node):
    claim = json.loads(node.google.guest["endpoint"])
    return claim["mode"], claim["max_model_len"]


def test_long_mode_serves_its_whole_context_when_it_passes_its_check(node, serve_and_check):
    """A needle past 64K, turns, a tool: nothing is given up without need."""
    result = serve_and_check()

    assert result.returncode == 0, result.stderr
    assert endpoint(node) == ("long", 131072)
    assert re.search(r"needle: found at 2K and 6[6-8]K of (69|70|71)K tokens", result.stderr)
    assert re.search(r"second turn: \d{4} tokens from the prefix cache", result.stderr)
    assert not (node.root / "run/mayfly/serve-flags").exists()
    assert "systemctl stop mayfly-vllm.service" not in node.calls("systemctl")


def test_safe_mode_serves_and_says_so_when_long_context_writes_garbage(node, serve_and_check):
    """Less than was asked for, at once, in plain words; not garbage, and not a dead machine."""
    result = serve_and_check(garbage_past=65536)

    assert result.returncode == 0, result.stderr
    assert endpoint(node) == ("safe", 32768)
    said = node.read("run/mayfly/answers")
    assert re.fullmatch(
        r"long context failed its check \(needle: not found at 2K and 6\dK of \d\dK tokens\): "
        r"serving 32,768 tokens instead",
        said,
    )
    assert json.loads(node.read("run/mayfly/serve-flags")) == FAST
    told = [value for key, value in node.google.published if key == "message"]
    assert any("starting again in the safe mode" in text for text in told)
    calls = [call for call in node.calls("systemctl") if "stop" in call or "restart" in call]
    assert calls == [
        "systemctl restart mayfly-vllm.service",
        "systemctl stop mayfly-vllm.service",
        "systemctl restart mayfly-vllm.service",
    ]


def test_check_stage_fails_with_both_reasons_when_the_safe_mode_is_no_better(node, serve_and_check):
    """Nobody is told that it serves; the second reason alone would puzzle."""
    result = serve_and_check(safe=[*FAST, "-dcp", "8"], garbage_past=1000)

    assert result.returncode == 1
    why = node.why("60-check")
    assert why.startswith("mode long failed its check (second turn: it does not know")
    assert "), and so did the safe mode (second turn: it does not know" in why
    assert "endpoint" not in node.google.guest


def test_check_stage_fails_with_both_reasons_when_the_safe_mode_does_not_start(
    node, serve_and_check
):
    """Its flags may be wrong too, and only now does anybody see it."""
    result = serve_and_check(safe=[*FAST, "--no-such-flag"], garbage_past=65536)

    assert result.returncode == 1
    why = node.why("60-check")
    assert "mode long failed its check (needle: not found" in why
    assert "and the safe mode did not start: vLLM ended" in why
    assert "unrecognized arguments: --no-such-flag" in why
