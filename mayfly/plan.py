"""The plan of a profile on a machine: will it fit, with which flags, at what price, until when.

Pure: no call to any cloud. Every figure belongs to one mode; nothing joins figures of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mayfly import measured, several
from mayfly.fit import FitError
from mayfly.machines import GPU_MACHINES, GPUS, MACHINES, MachineType
from mayfly.modes import MODES, Choice, Limits, frontier
from mayfly.plan_ask import Ask
from mayfly.plan_price import price
from mayfly.profile import Profile


def plan(ask: Ask) -> dict[str, Any]:
    """The plan as plain data. `fits` is False, with `reasons` and `nearest`, where it does not."""
    shown: dict[str, Any] = {
        "profile": ask.profile.name,
        "model": ask.profile.model,
        "machine": ask.machine,
        "nodes": ask.nodes,
        "gpus": f"{ask.nodes * MACHINES[ask.machine].gpus} x {MACHINES[ask.machine].gpu}",
        "engine": f"vLLM {ask.profile.engine.vllm}",
        "mode": ask.mode,
        "weights_from": ask.weights_from or _weights_from(ask.profile),
    }
    modes, refusals = {}, {}
    for mode in MODES:
        try:
            choice = ask.profile.choose(ask.machine, mode, ask.limits, ask.nodes)
        except FitError as error:
            refusals[mode] = str(error)
            continue
        modes[mode] = _mode(ask.profile, ask.machine, choice)
    costs = price(ask)
    if ask.mode not in modes:
        refused = refusals[ask.mode]
        return {**shown, "fits": False, "reasons": [refused], "nearest": nearest(ask), **costs}
    return {
        **shown,
        "fits": True,
        **{key: value for key, value in modes[ask.mode].items() if key in _TOP},
        **costs,
        "beside": several.beside(ask) if ask.nodes > 1 else [],
        "modes": modes,
        "refused_modes": refusals,
    }


def _weights_from(profile: Profile) -> str:
    return "config.json" if profile.shape else "the profile's size_gb"


_TOP = (
    *("weights_gib_per_gpu", "kv_gib_per_gpu", "kv_tokens", "max_context", "max_concurrency"),
    *("flags", "reasons"),
)


def _mode(profile: Profile, machine: str, choice: Choice) -> dict[str, Any]:
    """One mode's own figures, none of which is the other's. GiB are a GPU's."""
    fit, setup = choice.fit, choice.setup
    return {
        "max_context": choice.context,
        "context_as_wished": choice.reached,
        "max_concurrency": round(fit.kv_tokens / choice.context, 2),
        "max_requests": setup.seqs,
        "weights_gib_per_gpu": round(fit.weights_gib, 2),
        "reserve_gib_per_gpu": round(fit.reserve_gib, 2),
        "kv_gib_per_gpu": round(fit.kv_gib, 2),
        "kv_bytes_per_token": fit.kv_bytes_per_token,
        "kv_tokens": fit.kv_tokens,
        "tensor_parallel": setup.tp,
        "pipeline_parallel": setup.pp,
        "context_parallel": setup.dcp,
        "flags": list(profile.flags(machine, choice)),
        "reasons": [f"{flag}: {why}" for flag, why in choice.reasons],
        "frontier": [list(point) for point in frontier(choice)],
        "speed": _speed(profile, machine, choice),
    }


def _speed(profile: Profile, machine: str, choice: Choice) -> dict[str, Any]:
    """Decode speed by requests at a time, and what that figure rests on."""
    setup = choice.setup
    if setup.pp > 1:
        basis = f"not measured: nobody has run {setup.pp} machines as one pipeline here"
        return {"tok_s_per_request": None, "basis": basis}
    row = measured.find(profile.config, MACHINES[machine].gpu, setup.tp, setup.dcp)
    if row is None:
        basis = f"not measured on {setup.tp} x {MACHINES[machine].gpu}"
        if setup.dcp > 1:
            basis += f"; elsewhere {measured.context_parallelism()}"
        return {"tok_s_per_request": None, "basis": basis}
    return {
        "tok_s_per_request": {str(k): v for k, v in row.tok_s_per_request.items()},
        "basis": row.basis,
    }


def nearest(ask: Ask) -> dict[str, Any]:
    """The smallest change that fits: free parallelism on this machine, another machine, more."""
    if ask.limits != Limits():
        here = _fits_on(ask, ask.machine)
        if here:
            return {"machine": ask.machine, "command": _command(ask, ask.machine), **here}
    for machine in sorted(GPU_MACHINES, key=lambda name: _size(MACHINES[name])):
        found = _fits_on(ask, machine)
        if found:
            return {"machine": machine, "command": _command(ask, machine), **found}
    return several.nearest(ask.profile, ask.mode)


def _fits_on(ask: Ask, machine: str) -> dict[str, Any] | None:
    try:
        choice = ask.profile.choose(machine, ask.mode)
    except FitError:
        return None
    return {"max_context": choice.context, "machines": 1}


def _size(machine: MachineType) -> tuple[float, float]:
    return machine.gpus * GPUS[machine.gpu].gib, GPUS[machine.gpu].gib


def _command(ask: Ask, machine: str) -> str:
    return f"mayfly plan {ask.profile.name} --machine {machine} --mode {ask.mode}"


def every_fit(profiles: Mapping[str, Profile], mode: str) -> list[dict[str, Any]]:
    """One mode of every profile on every machine: a row each, in the order of both tables."""
    rows = []
    for profile in profiles.values():
        for machine in GPU_MACHINES:
            row: dict[str, Any] = {"profile": profile.name, "machine": machine}
            try:
                choice = profile.choose(machine, mode)
            except FitError as error:
                rows.append(
                    {
                        **row,
                        "fits": False,
                        "reason": str(error),
                        "nodes": _nodes(profile, machine, mode),
                    }
                )
                continue
            rows.append({**row, "fits": True, **_mode(profile, machine, choice)})
    return rows


def _nodes(profile: Profile, machine: str, mode: str) -> int | None:
    """How many whole hosts hold what one of them does not; None where mayfly knows none."""
    found = several.fewest(profile, machine, mode) if machine in several.WHOLE else None
    return found.nodes if found else None
