"""The watchdog and the unit together: a vLLM that dies while it serves."""

from tests.machine.test_unit_promises import PREPARE, TREES
from tests.machine.vllm_server import ROOT
from tests.waiting import wait_until

# Serves /metrics as a busy vLLM does, until somebody kills it.
BUSY = """#!/usr/bin/python3
from http.server import BaseHTTPRequestHandler, HTTPServer

NAMES = ("num_requests_running", "num_requests_waiting", "request_success_total")
COUNTERS = ("generation_tokens_total", "prompt_tokens_total")


class Busy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write("".join(f"vllm:{n} 1.0\\n" for n in (*NAMES, *COUNTERS)).encode())

    def log_message(self, *_):
        pass


print("torch.OutOfMemoryError: CUDA out of memory", flush=True)
HTTPServer(("127.0.0.1", 8000), Busy).serve_forever()
"""
SETTINGS = """cat >>/run/mayfly/env <<X
MAYFLY_IDLE_S=16
MAYFLY_START_S=60
MAYFLY_FAILED_S=4
MAYFLY_HEARTBEAT_S=30
MAYFLY_MAX_LIFE_S=600
MAYFLY_STATE_BUCKET=state
MAYFLY_SESSION=dev
GOOGLE_STORAGE_CUSTOM_ENDPOINT=http://127.0.0.1:9/
X"""
CODE = f"""cp -r {ROOT}/mayfly /opt/mayfly/
cp {ROOT}/startup/mayfly-watchdog.service /run/systemd/system/
cat >/opt/mayfly-engine/env/bin/vllm <<'X'
{BUSY}
X
echo serving >/run/mayfly/phase
echo 'kimi-k2.5 answers' >/run/mayfly/answers"""
ANSWERS = (
    "for i in $(seq 600); do (: </dev/tcp/127.0.0.1/8000) 2>/dev/null && break; sleep 0.1; done"
)
START = f"""systemctl daemon-reload; systemctl start mayfly-vllm
{ANSWERS}; systemctl start mayfly-watchdog"""
SAYS = "for i in $(seq 600); do grep -q '{}' /run/mayfly/{} && break; sleep 0.1; done"
SCRIPT = f"""#!/bin/bash
{PREPARE}
{CODE}
{SETTINGS}
{START}
systemctl kill -s SEGV mayfly-vllm
{SAYS.format("kimi-k2.5 answers; started again after", "message")}
echo "first: $(cat /run/mayfly/phase): $(cat /run/mayfly/message)"
systemctl kill -s SEGV mayfly-vllm
{SAYS.format("failed", "phase")}
echo "second: $(cat /run/mayfly/phase): $(cat /run/mayfly/message)"
sleep 60
"""
IMAGE = {"trees": [*TREES["trees"], ROOT / "mayfly"]}
LIMIT_S = 120


def test_vllm_is_started_once_again_and_then_the_machine_ends_when_it_dies_while_serving(boot):
    """The real unit, the real watchdog: a reason in plain words, and no bill for a dead engine."""
    machine = boot(SCRIPT, image=IMAGE)

    console = machine.console("Reached target Shutdown", LIMIT_S)

    lines = [line.partition("startup-script: ")[2] for line in console.splitlines()]
    (first,) = [line for line in lines if line.startswith("first")]
    (second,) = [line for line in lines if line.startswith("second")]
    why = "vLLM ended (signal): torch.OutOfMemoryError: CUDA out of memory"
    assert first == f"first: serving: kimi-k2.5 answers; started again after: {why}"
    assert second == f"second: failed: {why} (it was started again 0 min before)"
    wait_until(lambda: machine.off, LIMIT_S)
    said = {key: value for _, key, value in machine.told}
    assert said["mayfly/phase"] == "ended"
    assert said["mayfly/message"].startswith("failed: ")
    assert why in said["mayfly/message"]
