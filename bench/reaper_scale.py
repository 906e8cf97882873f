"""How long the reaper looks at many VMs and stacks, and what it asks of Google for that.

    python bench/reaper_scale.py [--vms 200] [--stacks 100] [--out docs/results]

Starts a local cloud of its own whose instances run nothing, and does whole runs of the reaper in
this process: three looks at VMs that start up, then one that ends as many more and books them. The
stacks are empty, as every session leaves one: all their states are read. OUT/reaper-scale.md is the
table, OUT/raw/<date>-reaper-scale.json what it is made from.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mayfly import names  # noqa: E402
from mayfly.cloud import Cloud, connect  # noqa: E402
from reaper.settings import Settings  # noqa: E402
from reaper.tick import Report, tick  # noqa: E402

ZONES = ("us-central1-a", "us-central1-b", "us-east5-a", "us-west1-a")
IMAGE = "projects/debian-cloud/global/images/family/debian-12"
EMPTY = {"version": 3, "checkpoint": {"stack": "s", "latest": {"resources": []}}}
ARCHIVE_BYTES = 85_000
"""A VM's metadata carries its programs: 64 KiB at most, base64. A list carries it too."""
READS_PER_MIN = 1500
"""Compute's default quota of reads (`read_requests`) a minute and project; lists have their own."""
LIMIT_S = 30
LOOKS = 3
COMPUTE_READS = {
    "compute.instances.aggregatedList": "lists of VMs, pages",
    "compute.instances.getGuestAttributes": "guest attributes",
    "compute.globalOperations.aggregatedList": "lists of operations, pages",
    "compute.instances.get": "looks at one VM",
}


@contextmanager
def local_cloud() -> Iterator[dict[str, Any]]:
    """A local cloud in the background, to which the environment leads; its description.

    Gone afterwards, whatever happens.
    """
    with tempfile.TemporaryDirectory(prefix="mayfly-scale-") as folder:
        command = [sys.executable, "-m", "local"]
        place = ["--dir", f"{folder}/cloud"]
        quiet = {"cwd": ROOT, "check": True, "stdout": subprocess.DEVNULL}
        settings = ["--setting", "hub_mb=0", "--setting", "machines=false"]
        subprocess.run([*command, "up", *place, *settings], timeout=120, **quiet)
        before = dict(os.environ)
        try:
            described = json.loads(Path(folder, "cloud/local.json").read_text())
            exported = described["exports"].items()
            os.environ.update({k: v for k, v in exported if k.startswith(("GOOGLE_", "GCE_"))})
            yield described
        finally:
            os.environ.clear()
            os.environ.update(before)
            subprocess.run([*command, "down", *place], timeout=120, **quiet)


def insert(cloud: Cloud, number: int, kind: str, **limits: float) -> None:
    """One VM of a session, as the program makes it."""
    zone, session = ZONES[number % len(ZONES)], f"{kind}{number}"
    settings = {"layer": "session", "session": session, "profile": "kimi-k2.5", "hourly_usd": 36.0}
    written = {
        names.SETTINGS_KEY: json.dumps({**settings, "started_by": "bench", **limits}),
        "mayfly-archive": "x" * ARCHIVE_BYTES,
        "enable-guest-attributes": "TRUE",
    }
    body = {
        "name": names.vm(session),
        "machineType": f"zones/{zone}/machineTypes/e2-standard-4",
        "labels": {names.LABEL_LAYER: names.SESSION, names.LABEL_SESSION: session},
        "metadata": {"items": [{"key": k, "value": v} for k, v in written.items()]},
        "disks": [{"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": IMAGE}}],
        "networkInterfaces": [{"network": "global/networks/default"}],
    }
    cloud.ask("POST", "compute", f"projects/{cloud.project}/zones/{zone}/instances", body)


def populate(cloud: Cloud, vms: int, stacks: int, kind: str, **limits: float) -> None:
    """VMs and the empty stacks of sessions that are over."""
    bucket = names.bucket(cloud.project, "state")
    state = json.dumps(EMPTY).encode()
    with ThreadPoolExecutor(16) as pool:
        made = [pool.submit(insert, cloud, n, kind, **limits) for n in range(vms)]
        made += [
            pool.submit(cloud.storage.put, bucket, names.stack_state(f"over{n}"), state)
            for n in range(stacks)
        ]
        for one in made:
            one.result()


def measured(api: str, project: str, what: str) -> dict[str, Any]:
    """One run of the reaper: its seconds, what it found, and the calls that reached Google."""
    settings = Settings(
        project=project,
        state_bucket=names.bucket(project, "state"),
        foundation_stack=names.FOUNDATION,
    )
    before = calls(api)
    began = time.monotonic()
    report = tick(connect(project), settings)
    seconds = time.monotonic() - began
    by_method = calls(api) - before
    return {"run": what, "seconds": round(seconds, 1), **found(report), "by_method": by_method}


def found(report: Report) -> dict[str, Any]:
    return {
        "vms": len(report.vms),
        "deleted": len(report.deleted),
        "booked": len(report.ledger),
        "errors": report.errors,
        "calls": report.calls,
        "pages": report.pages,
    }


def calls(api: str) -> Counter[str]:
    listed = requests.get(f"{api}/_local/calls", timeout=60).json()["calls"]
    return Counter(str(call["id"]) for call in listed)


def runs(vms: int, stacks: int) -> list[dict[str, Any]]:
    """All runs, on a cloud of their own."""
    with local_cloud() as local:
        api, project = local["urls"]["api"], local["project"]
        cloud = connect(project)
        enable = f"projects/{project}/services/compute.googleapis.com:enable"
        cloud.ask("POST", "services", enable, {})
        populate(cloud, vms, stacks, "up", start_s=86400)
        rows = [measured(api, project, f"look {n + 1}") for n in range(LOOKS)]
        populate(cloud, vms, 0, "down", start_s=1, failed_s=1)
        time.sleep(2)
        return [*rows, measured(api, project, "end")]


def reads(row: dict[str, Any]) -> int:
    """Compute's share of a run's calls, without its deletes."""
    return sum(row["by_method"].get(method, 0) for method in COMPUTE_READS)


def page(found: dict[str, Any]) -> str:
    """The table."""
    rows, slowest = found["runs"], max(row["seconds"] for row in found["runs"][:LOOKS])
    names_of = [*COMPUTE_READS.values()]
    lines = [
        "# What the reaper asks of Google",
        "",
        f"{found['date']}, on the local cloud, which shared two cores with the reaper and with "
        f"other work. {found['vms']} VMs in {len(ZONES)} zones, {found['stacks']} stacks. Made by",
        "",
        "```",
        f"python bench/reaper_scale.py --vms {found['vms']} --stacks {found['stacks']}",
        "```",
        "",
        "| run | seconds | VMs | ended | booked | calls | pages | reads of Compute | "
        + " | ".join(names_of)
        + " |",
        "|" + "---|" * (8 + len(names_of)),
    ]
    for row in rows:
        counts = [row["by_method"].get(method, 0) for method in COMPUTE_READS]
        cells = [row["run"], row["seconds"], row["vms"], row["deleted"], row["booked"]]
        cells += [row["calls"], row["pages"], reads(row), *counts]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    most = max(reads(row) for row in rows)
    lines += [
        "",
        f"- A look takes {slowest} s at most; the bound is {LIMIT_S} s. `calls` and `pages` are "
        "what the run itself answers, retries included.",
        f"- Compute allows {READS_PER_MIN} reads a minute and project by default, lists counted "
        "apart (cloud.google.com/compute/docs/api-rate-limits, `read_requests`). The hungriest run "
        f"made {most} in all, and there is one in five minutes.",
        "- The last run looks at twice the VMs, deletes half of them, waits until they are gone "
        "and writes a record for each.",
        "- Not measured: Google's own latency. Sixteen calls are under way at once, so that 200 "
        "VMs are 13 rounds of one call each.",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--vms", type=int, default=200)
    parser.add_argument("--stacks", type=int, default=100)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results")
    args = parser.parse_args()
    date = time.strftime("%Y-%m-%d", time.gmtime())
    rows = runs(args.vms, args.stacks)
    whole = {"date": date, "vms": args.vms, "stacks": args.stacks, "runs": rows}
    raw = args.out / "raw" / f"{date}-reaper-scale.json"
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.write_text(json.dumps(whole, indent=1) + "\n")
    (args.out / "reaper-scale.md").write_text(page(whole))
    print(page(whole))
    slow = [row["run"] for row in rows[:LOOKS] if row["seconds"] > LIMIT_S or row["errors"]]
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
