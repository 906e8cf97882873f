"""Takes vLLM's place in its unit and tries what the unit must not let it do.

Prints one JSON object, attempt -> "done" or the kernel's words, then stays.
"""

import ctypes
import json
import os
import socket
import sys
import time
import urllib.request
from pathlib import Path

TIMEOUT_S = 3
CLONE_NEWUSER = 0x10000000
IO_URING_SETUP = 425
METADATA = "http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/token"
PATHS = {
    "weights": "/mnt/mayfly/weights/model-00001-of-000064.safetensors",
    "code": "/opt/mayfly/startup/serve.py",
    "engine": "/opt/mayfly-engine/env/bin/vllm",
    "settings": "/run/mayfly/env",
    "phase": "/run/mayfly/phase",
    "units": "/run/systemd/system/mayfly-vllm.service",
    "cron": "/etc/cron.d/mayfly-probe",
    "cache": "/var/cache/mayfly-vllm/x",
    "tmp": "/tmp/.mayfly-probe",
    "shared memory": "/dev/shm/x",
}
SECRETS = {
    "key": "/run/mayfly-key/env",
    "passwords": "/etc/shadow",
    "root's home": "/root/.config/token",
    "a home": "/home/user/notes",
    "process 1": "/proc/1/environ",
    "the machine's tmp": "/tmp/of-the-machine",
}


def attempt(work, *arguments):
    try:
        work(*arguments)
    except OSError as error:
        reason = getattr(error, "reason", error)
        return getattr(reason, "strerror", None) or str(reason)
    return "done"


def token():
    request = urllib.request.Request(METADATA, headers={"Metadata-Flavor": "Google"})
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=TIMEOUT_S)


def dial(address, port):
    socket.create_connection((address, port), TIMEOUT_S).close()


def send(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.sendmsg([b"x"], [], 0, (address, 53))


def write(path):
    with open(path, "a") as file:
        file.write("x")


def read(path):
    Path(path).read_bytes()


def run_own():
    """As Triton does with what it has compiled."""
    program = Path(os.environ["HOME"], "stub")
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    if os.spawnv(os.P_WAIT, program, [str(program)]) != 0:
        raise OSError(0, "it does not run")


def new_namespace():
    libc = ctypes.CDLL(None, use_errno=True)
    if os.fork() == 0:  # the unit's process stays where it is
        os._exit(0 if libc.unshare(CLONE_NEWUSER) == 0 else ctypes.get_errno())
    code = os.waitstatus_to_exitcode(os.wait()[1])
    if code:
        raise OSError(code, os.strerror(code))


def ring():
    """io_uring, whose calls no filter sees; without parameters the kernel makes none."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(IO_URING_SETUP, 1, None) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main():
    found = {
        "token": attempt(token),
        "own address": attempt(dial, "10.10.0.2", 22),
        "internet": attempt(dial, "192.0.2.1", 443),
        "name server": attempt(send, "169.254.169.254"),
        "localhost": attempt(dial, "127.0.0.1", 9000),
        "packets": attempt(socket.socket, socket.AF_PACKET, socket.SOCK_RAW),
        "namespace": attempt(new_namespace),
        "ring": attempt(ring),
        "own program": attempt(run_own),
    }
    found |= {f"write {name}": attempt(write, path) for name, path in PATHS.items()}
    found |= {f"read {name}": attempt(read, path) for name, path in SECRETS.items()}
    print(json.dumps({"argv": sys.argv[1:], "found": found}), flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main()
