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

RATED = {
    "state_bucket": STATE,
    "rate_source": "cloud.google.com/spot-vms/pricing",
    "rate_date": "2026-11-02",
}

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
        **RATED,
        started_by="ann",
    )
    google.serving("dev", idle_s=300)
    google.say(
        "dev",
        timeline=started(1800, STAGES[-1][2]),
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


def started(age_s: float, reached_s: float, failed: str = "") -> str:
    """The claim `timeline` of a start that is so old and came so far."""
    began = time.time() - age_s
    stages = [
        {
            "stage": name,
            "start": stamp(began + start),
            "end": stamp(began + end) if end <= reached_s else None,
            "bytes": size if end <= reached_s else None,
            "ok": name != failed if end <= reached_s else None,
        }
        for name, start, end, size in STAGES
        if start <= reached_s
    ]
    return json.dumps(stages)


def set_up_states(google: Google) -> None:
    """A machine in each state that a page can meet, named after it; "kept" is held by a lease."""
    now = time.time()
    beat = {"heartbeat": stamp(now)}
    google.add_vm("new", age_s=20, **RATED)
    google.add_vm("starting", age_s=300, **RATED)
    google.say(
        "starting",
        phase="weights",
        message="21 of 64 shards",
        timeline=started(300, 300),
        **beat,
    )
    google.add_vm("serving", age_s=1800, served_model="kimi-k2.5", **RATED)
    google.serving("serving", idle_s=300)
    google.add_vm("kept", age_s=1800, **RATED)
    google.serving("kept", idle_s=300)
    lease = {"until": stamp(now + 7200), "by": "ann", "vm_id": "1003"}
    google.objects[STATE, "leases/kept"] = json.dumps(lease).encode()
    google.add_vm("failed", age_s=900, **RATED)
    google.say(
        "failed",
        phase="failed",
        message="stage weights failed: wrong sha256 twice",
        timeline=started(900, 402, "weights"),
        **beat,
    )
    taken = google.add_vm("preempted", age_s=4000, **RATED)
    google.serving("preempted", idle_s=10)
    google.instances[taken]["status"] = "STOPPING"
    over = google.add_vm("ended", age_s=4000, **RATED)
    google.say("ended", phase="ended", message="idle for 20 min")
    google.instances[over] |= {"status": "TERMINATED", "lastStopTimestamp": stamp(now - 60)}
    google.add_vm("seed", layer="seed", age_s=300, **RATED | {"rate_date": "2026-06-01"})
    google.say("seed", phase="seeding", message="312 of 595 GB", **beat)


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
