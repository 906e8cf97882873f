"""Start the real vLLM as the node's unit does and say where its seconds go, case by case.

    PYTHONPATH=SITE python bench/start.py --root ROOT --cases CASES.json --out DIR

On a machine with a GPU. SITE holds vLLM; ROOT/mnt/mayfly is what bench/checkpoint.py wrote. The
command line is startup/serve.py's, the environment that of startup/mayfly-vllm.env (its own
paths below ROOT); what systemd adds (a user of its own, the address rules) is left out.

CASES.json: a list of {"name", "load_format", "flags": [more of vLLM's], "format": instead of the
--load-format that serve.py gives, "caches": "cold" | "warm" | "restored", "arrive": {"after_s",
"over_s"}: shards appear at a steady rate from the start on, "model": folder below ROOT instead of
the weights, "env": {}, "until": a mark at which it ends, "check": true, "watch": the watchdog's
idle limit in seconds, "then": [a command to run while the server answers; {root}, {out} and
{python} are filled in], "limit_s"}.
DIR/results.jsonl gets a line a case, DIR/<name>.log the engine's log with seconds since the start.
Seconds in "marks" are from the start of the process to the first line that says so.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import start_watch  # noqa: E402
from bench.start_server import Arrival, Server  # noqa: E402
from mayfly import profile as profiles  # noqa: E402
from startup import serve  # noqa: E402

PORT = int(os.environ.get("PORT", "8000"))
MODEL = "kimi-k2.5"
MACHINE = "a3-highgpu-8g"
KEY = "key-of-a-measurement-only"
OWN_PATHS = ("/opt/mayfly", "/var/cache/mayfly", "/mnt/mayfly", "/run/mayfly")


def unit_environment(root: Path) -> tuple[dict[str, str], list[str]]:
    """(what the unit sets, what it unsets). Our own absolute paths come to lie below root."""
    file = (ROOT / "startup/mayfly-vllm.env").read_text()
    pairs = (line.partition("=") for line in file.splitlines() if not line.startswith("#"))
    unit = (ROOT / "startup/mayfly-vllm.service").read_text()
    unsets = re.findall(r"^UnsetEnvironment=(.*)$", unit, re.MULTILINE)
    return {name: below(root, value) for name, _, value in pairs if name}, " ".join(unsets).split()


def below(root: Path, value: str) -> str:
    parts = value.split(":")
    return ":".join(f"{root}{part}" if part.startswith(OWN_PATHS) else part for part in parts)


def flags(profile: str, more: list[str]) -> list[str]:
    """The profile's own, on one GPU. What a case adds comes last and wins."""
    own = profiles.load(profile).machines[MACHINE]["fast"].flags
    return [re.sub(r"(tensor-parallel-size)=\d+", r"\1=1", flag) for flag in own] + more


def settings(case: dict[str, Any], root: Path) -> dict[str, str]:
    return {
        "MAYFLY_ROOT": str(root),
        "MAYFLY_LAYER": "session",
        "MAYFLY_PORT": str(PORT),
        "MAYFLY_SERVED_MODEL": MODEL,
        "MAYFLY_SERVE_FLAGS": json.dumps(flags(MODEL, case.get("flags", []))),
        "MAYFLY_SAFE_FLAGS": "[]",
        "GCE_METADATA_HOST": "127.0.0.1:9",
        "MAYFLY_MODE": "fast",
        "MAYFLY_START_S": "1800",
        "MAYFLY_WEIGHTS_URI": "gs://measured/weights",
        "MAYFLY_LOAD_FORMAT": case["load_format"],
    }


def environment(case: dict[str, Any], root: Path) -> dict[str, str]:
    """As systemd would make it, plus the way to vLLM on this machine."""
    sets, unsets = unit_environment(root)
    found = {key: value for key, value in os.environ.items() if key not in unsets}
    if "LD_LIBRARY_PATH" in os.environ and not driver_is_found():
        found["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    plugin = f"{root}/opt/mayfly/startup/vllm_plugin/metadata"
    ours = sets["PYTHONPATH"].split(":")
    ours += [path for path in (plugin, os.environ.get("PYTHONPATH", "")) if path not in ours]
    sets["PYTHONPATH"] = ":".join(path for path in ours if path)
    more = {"VLLM_API_KEY": KEY, "PYTHONUNBUFFERED": "1", **case.get("env", {})}
    return {**found, **settings(case, root), **sets, **more}


def driver_is_found() -> bool:
    said = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    return "libcuda.so.1" in said


def lay_out(root: Path) -> None:
    """What a node's disk has: the code, the engine's command, the key, empty /proc and /dev/pts."""
    vllm = root / "opt/mayfly-engine/env/bin/vllm"
    for folder in (vllm.parent, root / "opt/mayfly", root / "run/mayfly-key", cache(root)):
        folder.mkdir(parents=True, exist_ok=True)
    module = "vllm.entrypoints.cli.main"
    vllm.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m {module} "$@"\n')
    vllm.chmod(0o755)
    for name in ("startup", "mayfly"):
        link = root / "opt/mayfly" / name
        link.unlink(missing_ok=True)
        link.symlink_to(ROOT / name)
    (root / "run/mayfly-key/env").write_text(f"VLLM_API_KEY={KEY}\n")


def cache(root: Path) -> Path:
    return root / "var/cache/mayfly-vllm"


def prepare_caches(kind: str, root: Path, scratch: Path) -> dict[str, Any]:
    """Kernel caches as the case wants them; "restored" goes through the product's own archive."""
    folder = cache(root)
    if kind == "cold":
        shutil.rmtree(folder)
        folder.mkdir()
    if kind != "restored":
        return {}
    archive = scratch / "caches.tar.gz"
    said: dict[str, Any] = {}
    for verb, words in (("pack", [folder, archive]), ("unpack", [archive, folder])):
        if verb == "unpack":
            shutil.rmtree(folder)
        command = [sys.executable, "-m", "startup.caches", verb, *map(str, words)]
        began = time.monotonic()
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
        )
        said[f"{verb}_s"] = round(time.monotonic() - began, 2)
        if done.returncode != 0:
            raise RuntimeError(f"{shlex.join(command)}: {done.stdout[-500:]} {done.stderr[-500:]}")
        said["archive_bytes"] = archive.stat().st_size
    archive.unlink()
    return said


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def command_of(case: dict[str, Any], env: dict[str, str], root: Path) -> list[str]:
    os.environ["MAYFLY_ROOT"] = str(root)  # startup.paths reads it
    command = serve.argv(env)
    if "model" in case:
        command[2] = str(root / case["model"])
    if "format" in case:
        while "--load-format" in command:
            at = command.index("--load-format")
            del command[at : at + 2]
        command += ["--load-format", case["format"]]
    return command


def run_case(case: dict[str, Any], root: Path, out: Path) -> dict[str, Any]:
    """One start, bounded; a failure is a result too."""
    result: dict[str, Any] = {"case": case, "caches": {}, "ok": False}
    arrival = None
    server = None
    try:
        result["caches"] = prepare_caches(case.get("caches", "warm"), root, out)
        if "arrive" in case:
            arrival = Arrival(root, case["arrive"])
            arrival.start()
        env = environment(case, root)
        result["argv"] = command_of(case, env, root)
        server = Server(result["argv"], env, out / f"{case['name']}.log")
        limit_s = case.get("limit_s", 280)
        if "until" in case:
            result["ok"] = server.wait_mark(case["until"], limit_s)
        elif server.wait_healthy(PORT, limit_s):
            result["ok"] = True
            result["answer"] = start_watch.answer(PORT, MODEL, KEY)
            result["first_answer_s"] = server.elapsed_s()
            result |= more(case, env, root, out)
    except Exception as error:
        result |= {"ok": False, "error": repr(error)}
    finally:
        if server is not None:
            server.kill()
            result |= {"marks": server.marks, "figures": server.figures}
            if not result["ok"]:
                result["last_lines"] = server.last
        if arrival is not None:
            arrival.restore()
            result["last_shard_s"] = arrival.last_s
    result["caches"]["bytes"] = size_of(cache(root))
    wait_gpu_free()
    return result


def more(case: dict[str, Any], env: dict[str, str], root: Path, out: Path) -> dict[str, Any]:
    """What a case wants to know of a server that answers."""
    found: dict[str, Any] = {}
    if "then" in case:
        found["then"] = then(case, root, out)
    if case.get("check"):
        found["check"] = start_watch.check(env)
    if case.get("watch"):
        ask = functools.partial(start_watch.ask, PORT, MODEL, KEY)
        found["watch"] = start_watch.watch(root, ask, PORT, float(case["watch"]))
    return found


def then(case: dict[str, Any], root: Path, out: Path) -> dict[str, Any]:
    """Run a command of this checkout beside the server, as a user's client would."""
    words = [word.format(root=root, out=out, python=sys.executable) for word in case["then"]]
    client = {"OPENAI_BASE_URL": f"http://127.0.0.1:{PORT}/v1", "OPENAI_API_KEY": KEY}
    with (out / f"{case['name']}-then.log").open("w") as log:
        done = subprocess.run(
            words,
            cwd=ROOT,
            env={**os.environ, **client},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=case.get("then_limit_s", 240),
        )
    return {"argv": words, "exit": done.returncode}


def wait_gpu_free(limit_s: float = 30.0) -> None:
    """The driver takes a moment to give back a killed engine's memory."""
    until = time.monotonic() + limit_s
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    while time.monotonic() < until:
        said = subprocess.run(query, capture_output=True, text=True, check=False).stdout
        if not any(int(mib) > 2000 for mib in said.split()):
            return
        time.sleep(0.5)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--cases", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", help="names of the cases to run, separated by commas")
    options = parser.parse_args()
    root = options.root.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    lay_out(root)
    failed = 0
    for case in json.loads(options.cases.read_text()):
        if options.only and case["name"] not in options.only.split(","):
            continue
        began = time.monotonic()
        result = run_case(case, root, options.out)
        result["wall_s"] = round(time.monotonic() - began, 1)
        failed += not result["ok"]
        with (options.out / "results.jsonl").open("a") as file:
            file.write(json.dumps(result) + "\n")
        brief = {k: v for k, v in result.items() if k not in ("case", "argv", "watch")}
        print(case["name"], json.dumps(brief), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
