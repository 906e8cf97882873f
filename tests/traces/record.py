"""Records a session of the local cloud as a trace: `python -m tests.traces.record FOLDER OUT`.

FOLDER: where a local cloud is about to start (the demo's TMPDIR). Waits for the first machine
there that is a session's, looks at it from the host every quarter of a second until it is gone,
and writes what has changed: the probes' raw inputs, in `replay`'s words.
"""

import json
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAUSE_S = 0.25
WAIT_S = 600.0
WATCHED = re.compile(
    r"^(vllm:(?:num_requests_running|num_requests_waiting|prompt_tokens_total"
    r"|generation_tokens_total|request_success_total)\{[^}]*\}) (\S+)$",
    re.MULTILINE,
)
LIMITS = ("idle_s", "start_s", "failed_s", "heartbeat_s", "max_life_s")


def found(folder: Path) -> Iterator[tuple[Path, Path]]:
    """(a machine's directory, its root as the kernel shows it to us)."""
    for process in Path("/proc").glob("[0-9]*"):
        words = text(process / "cmdline").split("\0")
        if "local.machine.cradle" not in words:
            continue
        spec = next(Path(word) for word in words if word.endswith("/spec.json"))
        children = text(process / "task" / process.name / "children").split()
        if spec.is_relative_to(folder) and children:
            yield spec.parent, Path("/proc", children[0], "root")


def text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def settings(root: Path) -> dict[str, str]:
    lines = text(root / "run/mayfly/env").splitlines()
    return {k: v.strip("'\"") for k, _, v in (line.partition("=") for line in lines)}


def session(folder: Path) -> tuple[Path, Path, dict[str, str]]:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        for place, root in found(folder):
            told = settings(root)
            if told.get("MAYFLY_LAYER") == "session":
                return place, root, told
        time.sleep(PAUSE_S)
    raise SystemExit("no session came")


def metrics(place: Path, port: str) -> dict[str, float] | None:
    """The watched series; None where vLLM does not answer."""
    try:
        with socket.socket(socket.AF_UNIX) as portal:
            portal.settimeout(3)
            portal.connect(str(place / "portal.sock"))
            portal.sendall(f"CONNECT {port}\n".encode())
            stream = portal.makefile("rb")
            if stream.readline() != b"OK\n":
                return None
            portal.sendall(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
            said = stream.read().decode("utf-8", "replace")
    except OSError:
        return None
    return {name: float(value) for name, value in WATCHED.findall(said)} or None


def terminals(root: Path) -> dict[str, float]:
    seen = {}
    for entry in (root / "dev/pts").glob("[0-9]*"):
        stat = entry.stat()
        seen[entry.name] = round(max(stat.st_atime - stat.st_ctime, 0))
    return seen


def processes(root: Path) -> dict[str, Any]:
    """Every process, for the rule must tell them apart; CPU and bytes of those in a login only."""
    seen = {}
    for folder in (root / "proc").glob("[0-9]*"):
        comm, _, rest = text(folder / "stat").partition("(")[2].rpartition(")")
        fields = rest.split()
        if len(fields) > 20:
            seen[folder.name] = {
                "comm": comm,
                "parent": int(fields[1]),
                "tty": int(fields[4]),
                "cpu_s": round((int(fields[11]) + int(fields[12])) / 100, 1),
            }
    return seen


def look(place: Path, root: Path, port: str) -> dict[str, Any]:
    return {
        "phase": text(root / "run/mayfly/phase").strip() or "booting",
        "metrics": metrics(place, port),
        "terminals": terminals(root),
        "processes": processes(root),
    }


def changed(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What a trace has to say: of tables the rows that differ, null for those that are gone."""
    told = {}
    for key, value in now.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            rows = {k: v for k, v in value.items() if old.get(k) != v}
            rows |= dict.fromkeys(old.keys() - value.keys())
            if rows:
                told[key] = rows
        elif value != old:
            told[key] = value
    return told


def main() -> int:
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    place, root, told = session(folder)
    began, before, lines = time.monotonic(), dict[str, Any](), list[str]()
    while (root / "run").exists():
        at = round(time.monotonic() - began, 2)
        now = look(place, root, told["MAYFLY_PORT"])
        difference = changed(before, now)
        if difference and now["processes"]:
            lines.append(json.dumps({"at": at, **difference}))
            before = now
        time.sleep(PAUSE_S)
    period_s = min(15.0, float(told["MAYFLY_IDLE_S"]) / 8)
    ended = next(json.loads(line)["at"] for line in lines if '"phase": "ended"' in line)
    head = {
        "about": "A session of the demo on the local cloud, from its boot to its end.",
        "made": time.strftime("recorded %Y-%m-%d"),
        "limits": {key: float(told[f"MAYFLY_{key.upper()}"]) for key in LIMITS},
        "powered_off": [ended - period_s, ended + period_s],  # its own looks fell elsewhere
    }
    lines.append(json.dumps({"at": round(time.monotonic() - began) + 30}))
    out.write_text("\n".join([json.dumps(head), *lines, ""]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
