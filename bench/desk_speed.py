"""How long the daily commands take of their own, beside a bare Python, in one run.

    python bench/desk_speed.py [--runs 11] [--vms 4] [--out docs/results/desk-speed.md]

Google is a server in this process that answers at once, so what is measured is ours: start,
imports, calls, output. Fails (1) where a limit is passed or one of the heavy packages is loaded.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MAYFLY = (sys.executable, "-m", "mayfly.cli")
COMMANDS: dict[str, tuple[str, ...]] = {
    "python -c pass": (sys.executable, "-c", "pass"),
    "mayfly --help": (*MAYFLY, "--help"),
    "mayfly status --json": (*MAYFLY, "status", "--json"),
    "mayfly status": (*MAYFLY, "status"),
    "mayfly plan kimi-k2.5 --json": (*MAYFLY, "plan", "kimi-k2.5", "--json"),
}
LIMITS_S = {"mayfly --help": 0.3, "mayfly status --json": 1.0, "mayfly status": 1.0}
HEAVY = ("pulumi", "pulumi_gcp", "grpc", "google.auth", "matplotlib")
PEER_S = {"mayfly --help": 2.7, "mayfly status --json": 4.7, "mayfly status": 4.7}
"""SkyPilot 0.14.1, `sky --help` and `sky status`, on two cores of the same kind; another day."""
LIVES_S = {"idle_s": 1200, "start_s": 1800, "failed_s": 300, "heartbeat_s": 300, "max_life_s": 9000}


class Google(BaseHTTPRequestHandler):
    """Some serving VMs, what they claim, and no lease."""

    vms = 4

    def do_GET(self) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if "/aggregated/" in self.path:
            listed = [self.vm(number, now) for number in range(self.vms)]
            return self.answer(200, {"items": {"zones/us-central1-a": {"instances": listed}}})
        if "getGuestAttributes" in self.path:
            said = {"phase": "serving", "heartbeat": now, "active_at": now}
            items = [{"key": key, "value": value} for key, value in said.items()]
            return self.answer(200, {"queryValue": {"items": items}})
        return self.answer(404, {"error": {"message": "not found"}})

    @staticmethod
    def vm(number: int, now: str) -> dict[str, Any]:
        settings = {"session": f"s{number}", "hourly_usd": 26.0, "state_bucket": "b", **LIVES_S}
        return {
            "id": str(number),
            "name": f"mayfly-s{number}",
            "zone": "zones/us-central1-a",
            "status": "RUNNING",
            "creationTimestamp": now,
            "labels": {"mayfly": "session", "mayfly-session": f"s{number}"},
            "metadata": {"items": [{"key": "mayfly-settings", "value": json.dumps(settings)}]},
        }

    def answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def desk(vms: int) -> Iterator[tuple[Path, dict[str, str]]]:
    """A checkout, and the environment that leads to our Google."""
    handler = type("Google", (Google,), {"vms": vms})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    base = f"http://127.0.0.1:{server.server_port}"
    environment = {
        **os.environ,
        "GOOGLE_PROJECT": "example-project",
        "GOOGLE_OAUTH_ACCESS_TOKEN": "fake",
        "GOOGLE_COMPUTE_CUSTOM_ENDPOINT": f"{base}/compute/v1/",
        "GOOGLE_STORAGE_CUSTOM_ENDPOINT": f"{base}/storage/v1/",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "",
    }
    try:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "Pulumi.yaml").write_text("name: mayfly\nruntime: python\n")
            yield Path(folder), environment
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def measure(runs: int, vms: int) -> list[dict[str, Any]]:
    """Wall seconds of each command, taken in turns: what disturbs one disturbs all alike."""
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with desk(vms) as (folder, environment):
        for words in COMMANDS.values():
            run(words, folder, environment)  # compiles, and fills the disk's cache
        for _ in range(runs):
            for name, words in COMMANDS.items():
                began = time.perf_counter()
                run(words, folder, environment)
                taken[name].append(time.perf_counter() - began)
        loaded = {name: heavy(words, folder, environment) for name, words in COMMANDS.items()}
    return [
        {
            "command": name,
            "least_s": round(min(times), 3),
            "median_s": round(statistics.median(times), 3),
            "most_s": round(max(times), 3),
            "heavy": loaded[name],
        }
        for name, times in taken.items()
    ]


def run(words: Sequence[str], folder: Path, environment: dict[str, str]) -> str:
    """What it says on stderr; CalledProcessError where it fails."""
    done = subprocess.run(
        words,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stderr


def heavy(words: Sequence[str], folder: Path, environment: dict[str, str]) -> list[str]:
    """Which of the heavy packages a command loads."""
    said = run([words[0], "-X", "importtime", *words[1:]], folder, environment)
    names = {line.rpartition("|")[2].strip() for line in said.splitlines() if "|" in line}
    return [name for name in HEAVY if name in names]


def problems(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What breaks the promise."""
    found = []
    for row in rows:
        limit_s = LIMITS_S.get(row["command"])
        if limit_s is not None and row["least_s"] > limit_s:
            found.append(f"{row['command']} takes {row['least_s']} s; the limit is {limit_s} s")
        if row["heavy"]:
            found.append(f"{row['command']} loads {', '.join(row['heavy'])}")
    return found


def page(rows: Sequence[dict[str, Any]], *, runs: int, vms: int, date: str) -> str:
    """docs/results/desk-speed.md, whole."""
    bare = rows[0]["least_s"]
    lines = [
        "| command | least s | median s | most s | limit s | x bare Python | SkyPilot 0.14.1, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        name = row["command"]
        lines.append(
            f"| `{name}` | {row['least_s']:.2f} | {row['median_s']:.2f} | {row['most_s']:.2f} "
            f"| {LIMITS_S.get(name, '')} | {row['least_s'] / bare:.1f} | {PEER_S.get(name, '')} |"
        )
    return "\n".join(
        [
            "# What the daily commands take of their own",
            "",
            f"{date}, {os.cpu_count()} cores that other work may have shared, Python "
            f"{platform.python_version()}. Made by",
            "",
            "```",
            f"python bench/desk_speed.py --runs {runs} --vms {vms}",
            "```",
            "",
            f"Wall seconds of {runs} runs each, in turns, after one that is not counted; bytecode "
            f"is there. Google is a server on this machine that answers at once and has {vms} VMs. "
            "The limits are held against the least; the last but one column is the least by "
            "Python's least. None of them loads "
            + ", ".join(f"`{name}`" for name in HEAVY)
            + ". SkyPilot's figures (`sky --help`, `sky status`) were not measured in this run: "
            "they are from another day, on two cores of the same kind.",
            "",
            *lines,
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--vms", type=int, default=4)
    parser.add_argument("--out", type=Path, help="the page to write")
    options = parser.parse_args()
    rows = measure(options.runs, options.vms)
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    text = page(rows, runs=options.runs, vms=options.vms, date=date)
    print(text)
    found = problems(rows)
    for problem in found:
        print(problem, file=sys.stderr)
    if options.out and not found:
        options.out.write_text(text)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
