"""A machine whose unit mayfly-vllm is the stand-in vLLM, started as startup/serve.py says."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from local.children import free_port
from startup import nccl_env
from tests.machine.vllm_server import FLAGS, HOST, KIMI, WHEELS
from tests.scripts.conftest import STARTUP, Machine

KEY = "k" * 32
FAST = [*(flag for flag in FLAGS if flag not in ("--served-model-name", "kimi-k2.5")), *KIMI]
LONG = [*FAST, "-dcp", "8", "--max-model-len=131072"]
END_LIMIT_S = 10
# What systemd would do with the unit: its command line, its key, its caches, its log.
UNIT = """
case "$1" in
show) echo 7 ;;
is-active) kill -0 "$(cat {pid} 2>/dev/null)" 2>/dev/null || exit 3 ;;
stop) kill -KILL "$(cat {pid})" 2>/dev/null ;;
restart)
  export $(cat {root}/run/mayfly-key/env) VLLM_CACHE_ROOT={root}/var/cache/mayfly-vllm/vllm
  PYTHONPATH={code} {python} -m startup.serve >>{root}/var/log/mayfly/vllm.log 2>&1 &
  echo $! >{pid} ;;
esac
"""


class VllmNode:
    """Stages 35 to 70 of a machine whose weights are there. `end` it, or it serves on."""

    def __init__(self, machine: Machine, weights: Path) -> None:
        self.machine, self._pid = machine, machine.root.parent / "pid"
        root, code = machine.root, STARTUP.parent
        text = UNIT.format(pid=self._pid, root=root, code=code, python=sys.executable)
        machine.stub("systemctl", body=text)
        machine.stub("sleep", body="exec /bin/sleep 0.2")
        machine.stub("nvidia-smi", body="echo 'NVIDIA H100 80GB HBM3, 580.159.04'")
        vllm = machine.write(
            "opt/mayfly-engine/env/bin/vllm",
            f"#!/bin/bash\nexport PYTHONPATH={WHEELS}:{code}\n"
            f'exec {sys.executable} -m vllm.entrypoints.cli.main "$@"\n',
        )
        vllm.chmod(0o755)
        (root / "mnt/mayfly").mkdir(parents=True)
        (root / "mnt/mayfly/weights").symlink_to(weights)
        (weights / ".complete").write_text("gs://w/models/kimi/abc\n")
        wanted = "\0".join(f"{name}={value}" for name, value in nccl_env.WANTED.items())
        machine.write("proc/7/environ", wanted)
        machine.google.secrets["projects/p/secrets/key"] = KEY
        self.environment = {
            "MAYFLY_MODE": "fast",
            "MAYFLY_PORT": str(free_port()),
            "MAYFLY_KERNEL_CACHES": "1",
            "MAYFLY_SERVE_FLAGS": json.dumps(FAST),
            "VLLM_MACHINE": json.dumps(HOST),
            "NCCL_NET": "Socket",
        }

    def run(self, script: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.machine.run(script, **self.environment, **more)

    def serve(self) -> None:
        """Stage 50, which must succeed."""
        done = self.run("50-serve.sh")
        assert done.returncode == 0, done.stderr

    @property
    def log(self) -> str:
        return self.machine.read("var/log/mayfly/vllm.log")

    def end(self) -> None:
        """Its server is gone, by its own pid."""
        if not self._pid.exists():
            return
        number = int(self._pid.read_text())
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            return
        pause = threading.Event()
        for _ in range(END_LIMIT_S * 20):
            if not Path(f"/proc/{number}").exists():
                return
            pause.wait(0.05)
