"""What the page is shown: a session at work, machines that are gone, a way to its endpoint."""

import json
import time

from tests.desk.google import PROJECT, Google, stamp
from tests.machine import vllm_server

STATE = f"{PROJECT}-mayfly-state"
KEY_SECRET = f"projects/{PROJECT}/secrets/k"
LEASE = (STATE, "leases/dev")
STAGES = (
    ("ram", 8, 14, None),
    ("driver", 8, 41, None),
    ("engine", 12, 118, 9_400_000_000),
    ("config", 14, 22, 24_000_000),
    ("weights", 22, 402, 595_000_000_000),
    ("serve", 118, 688, None),
    ("check", 688, 731, None),
)

# Listens where ssh would and hands each connection on to the endpoint.
GCLOUD = """#!{python}
import socket, sys, threading
port = int(sys.argv[sys.argv.index("-L") + 1].split(":")[1])
def copy(a, b):
    try:
        while data := a.recv(65536): b.sendall(data)
    except OSError: pass
    for s in (a, b):
        try: s.shutdown(socket.SHUT_RDWR)
        except OSError: pass
with socket.create_server(("127.0.0.1", port)) as door:
    while True:
        near, _ = door.accept()
        far = socket.create_connection(("127.0.0.1", {port}))
        for pair in ((near, far), (far, near)):
            threading.Thread(target=copy, args=pair, daemon=True).start()
"""


def set_up(google: Google) -> None:
    """A session "dev" half an hour old, last used five minutes ago, and a month of others."""
    google.secrets[KEY_SECRET] = vllm_server.KEY
    google.add_vm(
        "dev",
        age_s=1800,
        served_model="kimi-k2.5",
        api_key_secret=KEY_SECRET,
        state_bucket=STATE,
        rate_source="cloud.google.com/spot-vms/pricing",
        rate_date="2026-11-02",
        started_by="ann",
    )
    google.serving("dev", idle_s=300)
    began = time.time() - 1800
    google.say(
        "dev",
        timeline=json.dumps(
            [
                {
                    "stage": name,
                    "start": stamp(began + start),
                    "end": stamp(began + end),
                    "bytes": size,
                    "ok": True,
                }
                for name, start, end, size in STAGES
            ]
        ),
        endpoint=json.dumps({"mode": "long", "max_model_len": 262144, "served_model": "kimi-k2.5"}),
        load=json.dumps({"tok_s": 118.5, "running": 2, "waiting": 0}),
        look=json.dumps({"active": "a request was served", "unknown": ""}),
        message="serving kimi-k2.5, up to 262,144 tokens",
    )
    for n, (session, hours, why) in enumerate(
        [
            ("dev", 1.9, ("watchdog", "idle for 20 min")),
            ("evals", 3.2, ("user", "destroyed")),
            ("dev", 0.4, ("google", "preempted")),
        ]
    ):
        write(google, str(90 + n), session, hours, why)


def write(google: Google, number: str, session: str, hours: float, why: tuple[str, str]) -> None:
    """One record in the ledger."""
    rate = 26.0
    google.objects[STATE, f"ledger/{number}.json"] = json.dumps(
        {
            "format": 1,
            "instance_id": number,
            "vm": f"mayfly-{session}",
            "zone": "us-central1-a",
            "layer": "session",
            "session": session,
            "profile": "kimi-k2.5",
            "started_by": "ann",
            "machine": "a3-highgpu-8g",
            "provisioning": "spot",
            "created": f"2026-11-{10 + int(number) - 90}T09:30:00Z",
            "ended": f"2026-11-{10 + int(number) - 90}T12:30:00Z",
            "seconds": hours * 3600,
            "usd_per_h": rate,
            "rate_source": "table",
            "rate_date": "2026-11-02",
            "usd": round(hours * rate, 6),
            "ended_by": why[0],
            "reason": why[1],
            "timeline": [],
        }
    ).encode()
