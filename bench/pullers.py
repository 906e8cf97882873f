"""How fast, and at what cost in CPU, each program pulls 1 GiB in 16 files from a storage server.

`python bench/pullers.py` writes docs/results/pullers.md and, beside it, the raw figures. Needs
fake-gcs-server (`make engine`), openssl and what it measures; a program that is not on PATH is
left out, and the table says so. Everything is on loopback and in /dev/shm (3 GiB).

The server is fake-gcs-server itself, over https with a certificate of this run: the local cloud's
door in front of it is one Python process and would be what is measured.
"""

import argparse
import filecmp
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run as a program, as well as a module

from bench.puller_server import SHM, Server, served  # noqa: E402
from startup import pullers  # noqa: E402  # what the node runs is what is measured

LIMIT_S = 300


@dataclass(frozen=True)
class Candidate:
    """command: for (server, folder); gs:// addresses are on its stdin. checks: in the table."""

    name: str
    program: str
    checks: str
    command: Callable[[Server, Path], list[str]]
    environment: Callable[[], dict[str, str]] = dict


def of_product(puller: Callable[[], pullers.Puller], checks: str) -> Candidate:
    """A puller as the node's stage calls it."""
    made = puller()
    return Candidate(
        made.name,
        made.command[0],
        checks,
        lambda _, folder: [*puller().command, f"{folder}/"],
        lambda: dict(puller().environment),
    )


def child(how: str) -> Callable[[Server, Path], list[str]]:
    """A process of its own: what it uses is counted as any program's."""

    def command(server: Server, folder: Path) -> list[str]:
        program = Path(__file__).with_name("puller_children.py").resolve()
        return [sys.executable, str(program), how, str(server.port), str(server.ca), str(folder)]

    return command


def rclone(server: Server, folder: Path) -> list[str]:
    words = ["--gcs-anonymous", "--gcs-endpoint", f"{server.url}/storage/v1/"]
    words += ["--ca-cert", str(server.ca), "--config", "/dev/null"]
    words += ["--transfers", "8", "--multi-thread-streams", "8", "--files-from", "/dev/stdin"]
    return ["rclone", "copy", ":gcs:bench", str(folder), *words]


CANDIDATES = (
    of_product(pullers.gsutil, "crc32c or md5, while it arrives"),
    of_product(pullers.gcloud, "crc32c, while it arrives"),
    Candidate("transfer_manager, many", sys.executable, "crc32c, while it arrives", child("many")),
    Candidate(
        "transfer_manager, chunks", sys.executable, "crc32c, while it arrives", child("chunks")
    ),
    Candidate("rclone", "rclone", "md5 in a second pass, crc32c never", rclone),
    Candidate("curl, ranges", "curl", "not by itself: crc32c in a second pass", child("curl")),
    Candidate("our own, in Python", sys.executable, "crc32c, while it arrives", child("own")),
)


def measure(
    candidate: Candidate, server: Server, originals: Path, names: list[str]
) -> dict[str, Any]:
    """One pull: wall and CPU seconds of the puller with all its processes."""
    with tempfile.TemporaryDirectory(prefix="pulled-", dir=SHM) as name:
        folder = Path(name)
        asked = server.work / "asked"
        prefix = "" if candidate.program == "rclone" else "gs://bench/"
        asked.write_text("".join(f"{prefix}{name}\n" for name in names))
        os.environ["MAYFLY_ROOT"] = str(server.work)  # where the product's pullers keep state
        environment = server.environment() | candidate.environment()
        with asked.open("rb") as source, (server.work / "said").open("wb") as said:
            began = time.monotonic()
            process = subprocess.Popen(
                ["timeout", str(LIMIT_S), *candidate.command(server, folder)],
                stdin=source,
                stdout=said,
                stderr=said,
                env=environment,
            )
            _, status, usage = os.wait4(process.pid, 0)
            wall_s = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise SystemExit(f"{candidate.name}: {(server.work / 'said').read_text()[-2000:]}")
        _, wrong, lost = filecmp.cmpfiles(originals, folder, names, shallow=False)
        if wrong or lost:
            raise SystemExit(f"{candidate.name} did not bring {[*wrong, *lost]}")
    return {
        "puller": candidate.name,
        "files": len(names),
        "wall_s": round(wall_s, 3),
        "user_s": round(usage.ru_utime, 3),
        "system_s": round(usage.ru_stime, 3),
    }


def rounds(count: int, files: int, file_bytes: int) -> list[dict[str, Any]]:
    """Every candidate in every round, so that a busy minute hits all alike; the order turns."""
    there = [c for c in CANDIDATES if shutil.which(c.program)]
    found = []
    with served(files, file_bytes) as (server, originals):
        names = sorted(path.name for path in originals.glob("*.safetensors"))
        for number in range(count):
            turned = there[number % len(there) :] + there[: number % len(there)]
            for candidate in turned:
                for asked in (["tiny"], names):
                    run = measure(candidate, server, originals, asked)
                    found.append({"round": number, **run})
                    print(f"{number} {candidate.name}: {run}", file=sys.stderr, flush=True)
    return found


def median(
    runs: list[dict[str, Any]],
    candidate: Candidate,
    few: bool,
    key: Callable[[dict[str, Any]], float],
) -> float:
    mine = [r for r in runs if r["puller"] == candidate.name and (r["files"] == 1) == few]
    return statistics.median(map(key, mine))


def summary(runs: list[dict[str, Any]], total_bytes: int) -> list[dict[str, Any]]:
    """A row a puller. The start is what one byte costs; the rate per GiB is without it."""
    rows = []
    gib = total_bytes / (1 << 30)
    for candidate in CANDIDATES:
        if all(run["puller"] != candidate.name for run in runs):
            continue

        def cpu(run: dict[str, Any]) -> float:
            return float(run["user_s"] + run["system_s"])

        wall_s = median(runs, candidate, False, lambda run: float(run["wall_s"]))
        best_s = min(r["wall_s"] for r in runs if r["puller"] == candidate.name and r["files"] > 1)
        cpu_s, start_cpu_s = (median(runs, candidate, few, cpu) for few in (False, True))
        rows.append(
            {
                "puller": candidate.name,
                "checks": candidate.checks,
                "wall_s": round(wall_s, 2),
                "mb_per_s": round(total_bytes / 1e6 / wall_s, 1),
                "best_mb_per_s": round(total_bytes / 1e6 / best_s, 1),
                "cpu_s_per_gib": round(cpu_s / gib, 2),
                "start_s": round(median(runs, candidate, True, lambda r: float(r["wall_s"])), 2),
                "start_cpu_s": round(start_cpu_s, 2),
                "further_cpu_s_per_gib": round((cpu_s - start_cpu_s) / gib, 2),
            }
        )
    return rows


def version(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return (done.stdout or done.stderr).strip().split("\n")[0]


def versions() -> list[str]:
    """Of what was measured, and on what."""
    from importlib.metadata import version as of

    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "",
    )
    asked = {"gcloud": ["gcloud", "--version"], "rclone": ["rclone", "--version"]}
    asked |= {"curl": ["curl", "--version"]}
    found = [
        " ".join(version(words).split()[:4]) for name, words in asked.items() if shutil.which(name)
    ]
    found += [f"google-cloud-storage {of('google-cloud-storage')}"]
    found += [f"Python {platform.python_version()}", f"{os.cpu_count()} cores ({model})"]
    return found


def page(said: dict[str, Any]) -> str:
    """The Markdown that a reader finds."""
    rows = said["rows"]
    base = next(row for row in rows if row["puller"] == "gsutil")
    lines = [
        f"# Pulling {said['bytes'] / (1 << 30):g} GiB in {said['files']} files",
        "",
        f"{said['date'][:10]}, `{said['command']}`. Medians of {said['rounds']} rounds, every "
        "puller in each; over https",
        "from fake-gcs-server on loopback into tmpfs, server and puller on the same cores. "
        "CPU is user + system of the puller and",
        'all its processes. "Start" pulls one byte; "further" is CPU without that start. '
        "Every pull was compared with what was served.",
        "",
        "| puller | MB/s | best round | to gsutil | CPU s per GiB | start: s | start: CPU s "
        "| further CPU s per GiB | checks |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ratio = row["mb_per_s"] / base["mb_per_s"]
        lines.append(
            f"| {row['puller']} | {row['mb_per_s']:.0f} | {row['best_mb_per_s']:.0f} | "
            f"{ratio:.1f}x | {row['cpu_s_per_gib']:.1f} | {row['start_s']:.1f} | "
            f"{row['start_cpu_s']:.1f} | {row['further_cpu_s_per_gib']:.1f} | {row['checks']} |"
        )
    missing = ", ".join(said["missing"])
    lines += ["", f"{'; '.join(said['versions'])}." + (f" Not here: {missing}." if missing else "")]
    lines += [f"One-minute load of the machine at the start and the end: {said['load']}."]
    lines += [f"Raw figures: `{said['raw']}`. What follows from it: decision 0005."]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=16)
    parser.add_argument("--file-mib", type=int, default=64)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/pullers.md")
    asked = parser.parse_args()
    load = [os.getloadavg()[0]]
    runs = rounds(asked.rounds, asked.files, asked.file_mib << 20)
    load.append(os.getloadavg()[0])
    now = datetime.now(UTC)
    raw = asked.out.parent / f"raw/{now:%Y-%m-%d}-pullers/pullers.json"
    said = {
        "date": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "command": " ".join(["python", "bench/pullers.py", *sys.argv[1:]]),
        "rounds": asked.rounds,
        "files": asked.files,
        "bytes": asked.files * (asked.file_mib << 20),
        "versions": versions(),
        "load": ", ".join(f"{x:.1f}" for x in load),
        "missing": [c.name for c in CANDIDATES if not shutil.which(c.program)],
        "raw": str(raw.relative_to(asked.out.parent)),
        "rows": summary(runs, asked.files * (asked.file_mib << 20)),
    }
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.write_text(json.dumps({**said, "runs": runs}, indent=1) + "\n")
    asked.out.write_text(page(said))
    print(page(said))
    return 0


if __name__ == "__main__":
    sys.exit(main())
