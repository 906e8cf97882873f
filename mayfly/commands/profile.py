"""`mayfly profile new`, `mayfly profile check`."""

import json
from pathlib import Path

from mayfly import hub, profile, profile_writer
from mayfly.errors import FailedError
from mayfly.machines import MACHINES
from mayfly.problems import ConfigError, Problem
from mayfly.project import CHECKOUT

LOCKS = CHECKOUT / "startup/locks"
SIZE_TOLERANCE = 0.03
"""A vision tower and a layer for multi-token prediction are in the files and not in the plan."""


def new(model: str, *, name: str, revision: str) -> None:
    """Write a profile of a hub model, and say what to look at."""
    path = profile_writer.write(hub.read(model, revision), name)
    written = profile.load(path.stem)
    machines = ", ".join(written.machines) or "no machine that mayfly knows"
    print(f"Wrote profiles/{path.name} and its config: {machines}.")
    print(f"Next: read its wishes and serve flags, then mayfly plan {path.stem}")


def check(folder: Path = profile.PROFILES, *, as_json: bool) -> None:
    """Check every profile of a folder; FailedError if one has a problem."""
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    found = {name: [str(problem) for problem in problems(name, folder)] for name in names}
    if as_json:
        print(json.dumps({"profiles": found}, indent=2))
    bad = {name: told for name, told in found.items() if told}
    if bad:
        lines = [f"profiles/{name}.yaml: {line}" for name, told in bad.items() for line in told]
        raise FailedError("\n".join(lines), "A session with such a profile would fail.")
    if not as_json:
        print(f"{len(found)} profiles are sound: {', '.join(found)}.")


def problems(name: str, folder: Path) -> list[Problem]:
    """What is wrong with a profile: schema, config, flags, fit, lock, memory, size."""
    try:
        loaded = profile.load(name, folder)
    except ConfigError as error:
        return list(error.problems)
    return [*_lock(loaded), *_memory(loaded), *_size(loaded)]


def _lock(loaded: profile.Profile) -> list[Problem]:
    engine = loaded.engine
    there = (LOCKS / engine.lock).is_file() and engine.vllm in engine.lock
    if there or not loaded.machines:
        return []
    right = f"It must be vLLM {engine.vllm}'s file in startup/locks/."
    return [Problem("engine.lock", engine.lock, right)]


def _memory(loaded: profile.Profile) -> list[Problem]:
    return [
        Problem("machines", machine, "Half of its RAM must hold the weights (size_gb).")
        for machine in loaded.machines
        if loaded.size_gb >= MACHINES[machine].ram_gb / 2
    ]


def _size(loaded: profile.Profile) -> list[Problem]:
    """Two witnesses: the config's arithmetic and the hub's index."""
    if loaded.shape is None:
        return []
    parts = (part for part in loaded.shape.parts if not part.made_at_load)
    counted_gb = sum(part.size_bytes for part in parts) / 1e9
    if abs(counted_gb - loaded.size_gb) <= SIZE_TOLERANCE * loaded.size_gb:
        return []
    return [Problem("size_gb", loaded.size_gb, f"Its config makes {counted_gb:.2f} GB.")]
