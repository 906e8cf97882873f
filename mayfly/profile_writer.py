"""A new profile from what the hub says: facts copied, wishes guessed, machines by the planner."""

import json
from pathlib import Path
from typing import Any

from mayfly import names, profile
from mayfly.errors import WrongInputError
from mayfly.fit import FitError
from mayfly.hub import NOTHING_WRITTEN, HubModel
from mayfly.machines import GPU_MACHINES, GPUS, MACHINES
from mayfly.modes import MODES, Target, Wish, choose
from mayfly.parts import Shape, ShapeError
from mayfly.shape import shape_of

ENGINE = "0.24.0"
MOST_OFFERS = 3
FAST_CONTEXT, FAST_REQUESTS, LONG_REQUESTS = 32_768, 64, 8
MOST_CONTEXT = 262_144

# Parsers that vLLM's own documentation names for a family; others are the user's to add.
PARSERS = {
    "kimi_k25": ("--tool-call-parser=kimi_k2", "--reasoning-parser=kimi_k2"),
    "qwen3": ("--tool-call-parser=hermes",),
    "qwen3_moe": ("--tool-call-parser=hermes",),
}


def write(found: HubModel, name: str, folder: Path = profile.PROFILES) -> Path:
    """Write profiles/<name>.yaml and its config; returns the YAML's path.

    Raises WrongInputError where a file would be overwritten or the planner cannot read the config.
    """
    name = name or names.slug(found.model.partition("/")[2])
    path, config = folder / f"{name}.yaml", folder / "configs" / f"{name}.json"
    for file in (path, config):
        if file.exists():
            raise WrongInputError(f"{file.name} is there already.", NOTHING_WRITTEN)
    try:
        shape = shape_of(found.config)
    except (ShapeError, KeyError, TypeError, ValueError) as error:
        raise WrongInputError(
            f"The planner cannot read the config.json of {found.model}: {error}.", NOTHING_WRITTEN
        ) from None
    text = render(found, name, shape)
    config.parent.mkdir(exist_ok=True)
    config.write_text(json.dumps(found.config, indent=2) + "\n", encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    return path


def render(found: HubModel, name: str, shape: Shape) -> str:
    """The YAML's text; comments say what was guessed."""
    wishes = _wishes(shape)
    machines = _machines(shape, found.size_bytes, wishes)
    serve = _serve(found.config)
    lines = [
        f"# Written by `mayfly profile new {found.model}`; wishes and serve are a first guess.",
        f"summary: {found.model}",
        f"model: {found.model}",
        f"revision: {found.revision}",
        f"licence: {found.licence or 'not told by the hub'}",
        f"size_gb: {found.size_bytes / 1e9:.4g}",
        f"shards: {found.shards}",
        f"served_model: {name}",
        f"config: {name}.json",
        "engine:",
        f'  vllm: "{ENGINE}"',
        f"  lock: vllm-{ENGINE}.lock",
        '  driver_branch: "580"',
        "  load_format: instanttensor",
        "seeding:",
        "  disk_gb: 200",
        "  parallel: 4",
        "wishes:",
    ]
    for mode, wish in wishes.items():
        lines += [
            f"  {mode}:",
            f"    context_tokens: {wish.context_tokens}",
            f"    concurrency: {wish.concurrency}",
        ]
    lines += ["serve:" if serve else "serve: []", *(f"  - {flag}" for flag in serve)]
    lines += ["draft: null", "machines:" if machines else "machines: {} # none holds it"]
    return "\n".join([*lines, *(f"  {machine}: {{}}" for machine in machines), ""])


def _wishes(shape: Shape) -> dict[str, Wish]:
    most = min(shape.max_context or FAST_CONTEXT, MOST_CONTEXT)
    return {
        "fast": Wish(context_tokens=min(FAST_CONTEXT, most), concurrency=FAST_REQUESTS),
        "long": Wish(context_tokens=most, concurrency=LONG_REQUESTS),
    }


def _machines(shape: Shape, size_bytes: int, wishes: dict[str, Wish]) -> list[str]:
    """The smallest few that hold the model in both modes, weights in memory and on the GPUs."""
    found = []
    for name in sorted(GPU_MACHINES, key=_size):
        if size_bytes >= MACHINES[name].ram_gb * 1e9 / 2:
            continue
        try:
            for mode in MODES:
                target = Target(shape=shape, machine=MACHINES[name], engine=ENGINE)
                choose(target, mode, wishes[mode])
        except FitError:
            continue
        found.append(name)
    return found[:MOST_OFFERS]


def _size(machine: str) -> tuple[float, int]:
    found = MACHINES[machine]
    return found.gpus * GPUS[found.gpu].gib, found.ram_gb


def _serve(config: dict[str, Any]) -> list[str]:
    flags = []
    if "vision_config" in config:
        flags.append("--language-model-only")
    if "auto_map" in config:
        flags.append("--trust-remote-code")
    parsers = PARSERS.get(str(config.get("model_type")), ())
    flags += parsers
    if any(flag.startswith("--tool-call-parser") for flag in parsers):
        flags.append("--enable-auto-tool-choice")
    return flags
