"""vLLM starts while its shards arrive: the runner, stage 50, the plugin and the stand-in vLLM."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from local import checkpoint
from local.children import free_port
from startup import run
from tests.machine.vllm_server import FLAGS, HOST, KIMI, WHEELS
from tests.scripts.conftest import SETTINGS, STARTUP
from tests.scripts.test_vllm_plugin import entry
from tests.waiting import wait_until

# What systemd would do with the unit: its command line, its key, its log.
UNIT = """
case "$1" in
is-active) kill -0 "$(cat {pid} 2>/dev/null)" 2>/dev/null || exit 3 ;;
stop) kill -KILL "$(cat {pid})" 2>/dev/null ;;
restart)
  export $(cat {root}/run/mayfly-key/env)
  PYTHONPATH={code} {python} -m startup.serve >>{root}/var/log/mayfly/vllm.log 2>&1 &
  echo $! >{pid} ;;
esac
"""
# Stage weights: all shards but the last, and that one only when vLLM is seen to wait for it (or,
# without the plugin, to have died). In sequence the two would wait for each other.
FEED = """
set -euo pipefail
cd "$MAYFLY_ROOT/mnt/mayfly"
mkdir -p arriving
last="$(ls {model}/*.safetensors | tail -n 1)"
for shard in {model}/*.safetensors; do
  if [[ "$shard" == "$last" ]]; then
    log="$MAYFLY_ROOT/var/log/mayfly/vllm.log"
    until grep -q "{seen}" "$log" 2>/dev/null; do /bin/sleep 0.05; done
    {instead_of_the_last}
  fi
  cp "$shard" arriving/ && mv "arriving/${{shard##*/}}" weights/
done
echo 4096 >"$MAYFLY_ROOT/run/mayfly/bytes/$MAYFLY_STAGE"
echo "$MAYFLY_WEIGHTS_URI" >weights/.complete
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoint.make(tmp_path_factory.mktemp("model"), 16)


@pytest.fixture
def node(machine, model, tmp_path, monkeypatch):
    """A machine whose unit is the stand-in vLLM, with all of the model but its shards."""
    pid, code = tmp_path / "pid", STARTUP.parent
    body = UNIT.format(pid=pid, root=machine.root, code=code, python=sys.executable)
    machine.stub("systemctl", body=body)
    machine.stub("sleep", body="exec /bin/sleep 0.1")
    vllm = machine.write(
        "opt/mayfly-engine/env/bin/vllm",
        f"#!/bin/bash\nexport PYTHONPATH={WHEELS}:$PYTHONPATH\n"
        f'exec {sys.executable} -m vllm.entrypoints.cli.main "$@"\n',
    )
    vllm.chmod(0o755)
    (machine.root / "opt/mayfly").symlink_to(code)
    shards = [entry(p.name, p.stat().st_size) for p in sorted(model.glob("*.safetensors"))]
    machine.write("mnt/mayfly/weights.json", json.dumps({"format": 1, "files": shards}))
    for path in model.iterdir():
        if path.suffix != ".safetensors":
            machine.write(f"mnt/mayfly/weights/{path.name}", path.read_bytes())
    machine.google.secrets["projects/p/secrets/key"] = "k" * 32
    flags = [flag for flag in FLAGS if flag not in ("--served-model-name", "kimi-k2.5")]
    settings = {
        **SETTINGS,
        "MAYFLY_PORT": str(free_port()),
        "MAYFLY_SERVE_FLAGS": json.dumps([*flags, *KIMI]),
        "VLLM_MACHINE": json.dumps(HOST),
        "NCCL_NET": "Socket",
    }
    for name, value in {**machine.environment(), **settings}.items():
        monkeypatch.setenv(name, value)
    machine.pid = pid
    yield machine
    end(pid)


def end(pid: Path) -> None:
    if pid.exists() and alive(pid):
        os.kill(int(pid.read_text()), signal.SIGKILL)


def alive(pid: Path) -> bool:
    stat = Path(f"/proc/{pid.read_text().strip()}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def start(node, model, tmp_path):
    """A session's own graph. seen: in vLLM's log before the last shard comes."""

    def run_session(seen: str, instead_of_the_last: str = "") -> int:
        scripts = tmp_path / "scripts"
        scripts.mkdir()
        for stage in run.SESSION:
            (scripts / stage.script).write_text("true\n")
        for name in ("50-serve.sh", "lib.sh"):
            (scripts / name).unlink(missing_ok=True)
            (scripts / name).symlink_to(STARTUP / name)
        feed = FEED.format(model=model, seen=seen, instead_of_the_last=instead_of_the_last)
        (scripts / "30-weights.sh").write_text(feed)
        return run.run_layer(run.SESSION, scripts, run.serving)

    return run_session


def test_vllm_starts_before_its_last_shard_arrives(start, node, phases, timeline):
    """The minute of imports goes by while the shards come: the point of it all."""
    assert start("mayfly: waiting for") == 0

    told = {stage["stage"]: stage for stage in timeline()}
    assert told["serve"]["start"] < told["weights"]["end"] < told["serve"]["end"]
    assert told["weights"]["bytes"] == 4096
    assert told["serve"]["ok"]
    assert phases()[-1] == "serving"
    assert node.calls("systemctl").count("systemctl restart mayfly-vllm.service") == 1


def test_vllm_starts_plainly_when_it_does_not_know_the_plugin(start, node, timeline):
    """Another vLLM, another Python, a broken file: the session costs a minute more, no more."""
    (node.root / "opt/mayfly").unlink()
    (node.root / "opt/mayfly").mkdir()

    assert start("is not supported") == 0

    told = {stage["stage"]: stage for stage in timeline()}
    assert told["serve"]["ok"]
    assert node.calls("systemctl").count("systemctl restart mayfly-vllm.service") == 2
    said = [value for key, value in node.google.published if key == "message"]
    assert any("starts again when they are; vLLM ended" in text for text in said)
    assert "Load format `mayfly` is not supported" in node.read("var/log/mayfly/vllm.log.early")


def test_vllm_is_stopped_when_its_weights_fail_while_it_waits(start, node, phases, timeline):
    """One plain reason, and no engine that waits for what never comes."""
    why = 'echo "shard 9 is wrong twice" >"$MAYFLY_ROOT/run/mayfly/why/weights"; exit 1'

    assert start("mayfly: waiting for", instead_of_the_last=why) == 1

    assert phases()[-1] == "failed"
    assert node.google.guest["message"] == "stage weights failed: shard 9 is wrong twice"
    assert [stage["ok"] for stage in timeline() if stage["stage"] == "weights"] == [False]
    wait_until(lambda: not alive(node.pid))
