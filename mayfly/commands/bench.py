"""`mayfly bench`: the inference test and the benchmark, on a session, with what the session is."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mayfly import endpoint, timeline, vms
from mayfly.commands.connect import facts, opened, serving
from mayfly.errors import FailedError, WrongInputError
from mayfly.project import CHECKOUT
from mayfly.remote import Place
from mayfly.talk import tell

BENCH = CHECKOUT / "bench"
OWN = ("--out", "--url", "--key", "--json", "--usd-per-hour", "--rate-source", "--rate-date")
SETTINGS = ("profile", "machine", "provisioning", "zone", "region", "engine", "model", "revision")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The command line. words: the benchmark's own flags."""

    session: str
    port: str
    words: Sequence[str]
    out: Path | None
    report: Path | None


def run(wanted: Wanted, *, as_json: bool) -> int:
    """0 when every request succeeded, 1 when some failed: the result is kept all the same.

    FailedError where the endpoint does not do what clients need: nothing is measured then.
    """
    check(wanted)
    place, local_port = serving(wanted.session, wanted.port)
    with opened(place, local_port) as tunnel, tempfile.TemporaryDirectory() as folder:
        found = facts(place.cloud, place.vm, tunnel, True)
        kept = wanted.out or Path(folder, "result.json")
        environment = {"OPENAI_BASE_URL": found["base_url"], "OPENAI_API_KEY": found["api_key"]}
        # With --json, stdout is the result's alone.
        quiet = {"env": os.environ | environment, "stdout": sys.stderr if as_json else None}
        if program("test_inference.py", thinking(place.vm), **quiet):
            raise FailedError(
                f"The endpoint of {place.vm.session} does not do what clients need (above).",
                "Nothing was measured; the session runs on and costs money until it is idle.",
                f"Try: mayfly logs {place.vm.session}",
            )
        code = program(
            "benchmark.py", [*rate(place.vm), *wanted.words, "--out", str(kept)], **quiet
        )
        if not kept.is_file():
            return code or 1
        result = json.loads(kept.read_text()) | {"session": session(place)}
        kept.write_text(json.dumps(result, indent=1) + "\n")
        if as_json:
            print(json.dumps(result, indent=2))
        if wanted.report:
            program("report.py", [str(kept), "--out", str(wanted.report)], stdout=sys.stderr)
    if wanted.out:
        tell(f"Kept: {wanted.out}")
    return code


def check(wanted: Wanted) -> None:
    """WrongInputError for what would be found out only after minutes."""
    for word in wanted.words:
        if word.partition("=")[0] in OWN:
            raise WrongInputError(
                f"{word}: mayfly bench says this to the benchmark itself.",
                "Nothing was attempted.",
                "Try: mayfly bench --out FILE -- --concurrent 1,2,8",
            )
    for path in (wanted.out, wanted.report):
        if path is not None and not path.absolute().parent.is_dir():
            raise WrongInputError(f"{path}: there is no such folder.", "Nothing was attempted.")


def program(name: str, words: Sequence[str], **more: Any) -> int:
    """One of bench/'s programs to its end: its exit status."""
    return subprocess.run(
        [sys.executable, str(BENCH / name), *words], check=False, **more
    ).returncode


def thinking(vm: vms.Vm) -> list[str]:
    """The inference test's word for a server that keeps thinking apart."""
    flags = vm.settings.get("serve_flags") or ()
    return ["--reasoning"] if any(str(f).startswith("--reasoning-parser") for f in flags) else []


def rate(vm: vms.Vm) -> list[str]:
    """The benchmark's words for what an hour costs; none where nobody knows."""
    if not vm.hourly_usd:
        return []
    words = ["--usd-per-hour", str(vm.hourly_usd)]
    for flag, key in (("--rate-source", "rate_source"), ("--rate-date", "rate_date")):
        if vm.settings.get(key):
            words += [flag, str(vm.settings[key])]
    return words


def session(place: Place) -> dict[str, Any]:
    """What the session is, did and cost up to now. None = not known."""
    vm, now = place.vm, time.time()
    said: Mapping[str, str] = vms.claims(place.cloud, vm) or {}
    stages = timeline.parse(said.get("timeline", ""))
    ready = [stage.end for stage in stages if stage.name == "check" and stage.end is not None]
    offers = endpoint.parse(said.get("endpoint", ""))
    limits = vm.limits()
    return {
        "session": vm.session,
        **{key: vm.settings.get(key) for key in SETTINGS},
        "serve_flags": vm.settings.get("serve_flags"),
        "mode": offers.mode if offers else vm.settings.get("mode"),
        "max_model_len": offers.max_model_len if offers else None,
        "idle_s": limits.idle_s if limits else None,
        "started_s": round(ready[-1] - vm.created_at, 1) if ready else None,
        "seconds": round(vm.age_s(now), 1),
        "usd": vm.cost_usd(now),
        "timeline": [
            {"stage": s.name, "start": s.start, "end": s.end, "bytes": s.bytes, "ok": s.ok}
            for s in stages
        ],
        "basis": "",
    }
