"""A mode that fails its check is given up once: the stages' scripts against the stand-in vLLM."""

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from local import checkpoint
from startup import nccl_env
from tests.machine.vllm_server import FLAGS, HOST, KIMI, WHEELS, free_port
from tests.scripts.conftest import STARTUP

KEY = "k" * 32
BASE = [flag for flag in FLAGS if flag not in ("--served-model-name", "kimi-k2.5")]
FAST = [*BASE, *KIMI]
LONG = [*FAST, "-dcp", "8", "--max-model-len=131072"]
# What systemd would do with the unit: its command line, its key, its log.
UNIT = """
case "$1" in
show) echo 7 ;;
is-active) kill -0 "$(cat {pid} 2>/dev/null)" 2>/dev/null || exit 3 ;;
stop) kill -KILL "$(cat {pid})" 2>/dev/null ;;
restart)
  export $(cat {root}/run/mayfly-key/env)
  PYTHONPATH={code} {python} -m startup.serve >>{root}/var/log/mayfly/vllm.log 2>&1 &
  echo $! >{pid} ;;
esac
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return checkpoint.make(tmp_path_factory.mktemp("model"), 16)


@pytest.fixture
def node(machine, weights, tmp_path):
    """A machine whose unit is the stand-in vLLM, and whose weights are there."""
    code, pid = STARTUP.parent, tmp_path / "pid"
    body = UNIT.format(pid=pid, root=machine.root, code=code, python=sys.executable)
    machine.stub("systemctl", body=body)
    machine.stub("sleep", body="exec /bin/sleep 0.2")
    vllm = machine.write(
        "opt/mayfly-engine/env/bin/vllm",
        f"#!/bin/bash\nexport PYTHONPATH={WHEELS}:{code}\n"
        f'exec {sys.executable} -m vllm.entrypoints.cli.main "$@"\n',
    )
    vllm.chmod(0o755)
    (machine.root / "mnt/mayfly").mkdir(parents=True)
    (machine.root / "mnt/mayfly/weights").symlink_to(weights)
    (weights / ".complete").write_text("gs://w/models/kimi/abc\n")
    machine.write("proc/7/environ", "\0".join(f"{k}={v}" for k, v in nccl_env.WANTED.items()))
    machine.google.secrets["projects/p/secrets/key"] = KEY
    yield machine
    end(pid)


def end(pid: Path) -> None:
    if pid.exists():
        number = int(pid.read_text())
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            return
        for _ in range(100):
            if not Path(f"/proc/{number}").exists():
                return
            time.sleep(0.05)


@pytest.fixture
def serve_and_check(node, run_stage):
    """Stages 50 and 60; the second one's result. garbage_past: where DCP begins to garble."""

    def run(*, flags=LONG, safe=FAST, garbage_past=0):
        settings = {**HOST["settings"], "vllm_garbage_past": str(garbage_past)}
        environment = {
            "MAYFLY_MODE": "long",
            "MAYFLY_PORT": str(free_port()),
            "MAYFLY_SERVE_FLAGS": json.dumps(flags),
            "MAYFLY_SAFE_FLAGS": json.dumps(safe),
            "VLLM_MACHINE": json.dumps({**HOST, "settings": settings}),
            "NCCL_NET": "Socket",
        }
        served = run_stage("50-serve.sh", **environment)
        assert served.returncode == 0, served.stderr
        return run_stage("60-check.sh", **environment)

    return run


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
