"""`mayfly plan`: fit, flags, rate and deadline of a profile on a machine, before any money."""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mayfly import checkpoint as checkpoints
from mayfly import plan_price, profile, several
from mayfly.errors import RefusedError, WrongInputError, explained
from mayfly.fit import FitError, KvType
from mayfly.machines import GPU_MACHINES, MACHINES, MachineType
from mayfly.modes import MODES, Limits, Wish
from mayfly.plan import plan
from mayfly.plan_ask import DEFAULT_HOURS, DEFAULT_MODE, Ask
from mayfly.pricing import Rate, utc_today
from mayfly.problems import NOTHING_DONE, one_of
from mayfly.talk import tell

KV_TYPES = ("auto", "bf16", "fp8")
BAR = 32
NOT_STARTED = "This is arithmetic: mayfly up starts one machine, several it only plans."


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The command line; "" and 0 leave a choice to the profile."""

    profile: str
    machine: str
    nodes: int
    mode: str
    context: int
    concurrency: int
    tp: int
    dcp: int
    kv: str
    zone: str
    provisioning: str
    hours: float
    budget: float
    checkpoint: str
    live: bool = False


def run(wanted: Wanted, *, as_json: bool) -> None:
    """Print the plan; RefusedError with the nearest fit where it does not fit."""
    if not wanted.profile:
        return show_profiles(as_json=as_json)
    ask = parse(wanted)
    if wanted.live:
        ask = dataclasses.replace(ask, live_rates=asked_now(ask))
    planned = plan(ask)
    if as_json:
        print(json.dumps(planned, indent=2))
    elif planned["fits"]:
        show(planned)
    if not planned["fits"]:
        raise refusal(ask, planned)
    short = planned["modes"][ask.mode]
    if wanted.context > short["max_context"]:
        raise too_short(ask, wanted.context, short["max_context"])
    return None


def parse(wanted: Wanted) -> Ask:
    """The question in the planner's terms. WrongInputError for what cannot be meant."""
    loaded = profile.load(wanted.profile)
    machine = chosen("machine", wanted.machine or loaded.default_machine or GPU_MACHINES[0])
    if wanted.nodes > 1:
        one("machine", machine.name, several.WHOLE)
    mode = one("mode", wanted.mode or DEFAULT_MODE, MODES)
    kv = one("kv", wanted.kv, KV_TYPES)
    one("provisioning", wanted.provisioning, machine.provisioning)
    if wanted.zone:
        one("zone", wanted.zone, machine.zones)
    wish = loaded.wishes[mode]
    wish = Wish(
        context_tokens=wanted.context or wish.context_tokens,
        concurrency=wanted.concurrency or wish.concurrency,
    )
    return Ask(
        profile=dataclasses.replace(loaded, wishes={**loaded.wishes, mode: wish}),
        machine=machine.name,
        nodes=wanted.nodes,
        mode=mode,
        provisioning=wanted.provisioning,
        zone=wanted.zone,
        hours=wanted.hours or DEFAULT_HOURS,
        budget_usd=wanted.budget or None,
        weights_from=f"safetensors headers in {wanted.checkpoint}" if wanted.checkpoint else "",
        limits=Limits(
            tp=wanted.tp or None,
            dcp=wanted.dcp or None,
            kv_dtype=cast(KvType, kv),
            weights=exact(wanted, loaded, machine),
        ),
    )


def asked_now(ask: Ask) -> list[Rate]:
    """What Google says of the price now; nothing where it does not say, which is told."""
    from mayfly import live
    from mayfly.cloud import CloudError
    from mayfly.commands.quota import open_project

    zone = ask.zone or MACHINES[ask.machine].zones[0]
    try:
        found = live.rate(open_project(), ask.machine, zone, ask.provisioning)
    except CloudError as error:
        tell(f"No live price, going by the table: {explained(error).what}")
        return []
    if found is None:
        tell(f"Google tells no price of it as {ask.provisioning} in {zone}.")
        return []
    return [found]


def exact(wanted: Wanted, loaded: profile.Profile, machine: MachineType) -> float | None:
    """Bytes a GPU from the checkpoint at hand; None without one."""
    if not wanted.checkpoint:
        return None
    if wanted.nodes > 1:
        raise WrongInputError(
            "--checkpoint: exact sizes are read for one machine only.", "Nothing was planned."
        )
    if loaded.shape is None:
        raise WrongInputError(
            f"--checkpoint: {loaded.name} has no config.json that the planner can read.",
            "Nothing was planned.",
        )
    shards = shards_of(wanted.checkpoint)
    if not shards:
        raise WrongInputError(
            f"{wanted.checkpoint} holds no *.safetensors.",
            "Nothing was planned.",
            "Name a model's folder, or its gs:// address in the bucket.",
        )
    tp = wanted.tp or ranks(loaded, machine)
    return checkpoints.weights_bytes_per_gpu(shards, loaded.shape, tp)


def ranks(loaded: profile.Profile, machine: MachineType) -> int:
    """Over how many of its GPUs the planner cuts a model: not each can be cut over all."""
    try:
        return loaded.choose(machine.name, DEFAULT_MODE).setup.tp
    except FitError:
        return machine.gpus


def shards_of(where: str) -> list[checkpoints.Shard]:
    """In a folder or, for a gs:// address, in a bucket."""
    if not where.startswith("gs://"):
        return checkpoints.in_folder(Path(where))
    from mayfly.commands.quota import open_project

    return checkpoints.in_bucket(open_project(), where)


def chosen(what: str, name: str) -> MachineType:
    return MACHINES[one(what, name, GPU_MACHINES)]


def one(what: str, value: str, valid: tuple[str, ...]) -> str:
    if value not in valid:
        raise WrongInputError(f"--{what}: {value!r}. {one_of(valid)}", "Nothing was planned.")
    return value


def refusal(ask: Ask, planned: dict[str, Any]) -> RefusedError:
    """Why not, and what would."""
    near = planned["nearest"]
    if near["command"]:
        remedy = f"Try: {near['command']}   (fits, {near['max_context']:,} tokens of context)"
    else:
        remedy = near["note"]
    machines = f"{ask.nodes} x {ask.machine}" if ask.nodes > 1 else ask.machine
    return RefusedError(
        f"{ask.profile.name} does not fit {machines} in mode {ask.mode}: {planned['reasons'][0]}.",
        NOTHING_DONE,
        remedy,
    )


def too_short(ask: Ask, wished: int, context: int) -> RefusedError:
    other = "long" if ask.mode == "fast" else None
    remedy = f"mayfly plan {ask.profile.name} --machine {ask.machine} --context {context}"
    if other:
        remedy = f"mayfly plan {ask.profile.name} --machine {ask.machine} --mode {other}"
    return RefusedError(
        f"{wished:,} tokens of context do not fit {ask.machine} in mode {ask.mode}; "
        f"{context:,} do.",
        NOTHING_DONE,
        f"Try: {remedy}",
    )


def show_profiles(*, as_json: bool) -> None:
    """The profiles that there are."""
    rows = [profile.load(name) for name in profile.names()]
    if as_json:
        listed = [
            {"profile": row.name, "summary": row.summary, "machines": list(row.machines)}
            for row in rows
        ]
        print(json.dumps({"profiles": listed}, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("profile", "what it is", "machines")
    for row in rows:
        table.add_row(row.name, row.summary, ", ".join(row.machines) or "none holds it")
    Console().print(table)


def show(planned: dict[str, Any]) -> None:
    """The plan for people: what all of it costs, then each mode by itself."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    console.print(
        f"[bold]{planned['profile']}[/] ({planned['model']}) on {machines(planned)}, "
        f"{planned['gpus']}, {planned['engine']}; weights by {planned['weights_from']}"
    )
    money = plan_price.lines(planned, utc_today())
    for line in (*money, *several.lines(planned["beside"], planned["zone"])):
        console.print(escape(line), soft_wrap=True)
    if planned["nodes"] > 1:
        console.print(NOT_STARTED)
    for mode, figures in planned["modes"].items():
        console.print()
        for line in mode_lines(mode, figures, chosen=mode == planned["mode"]):
            console.print(escape(line), soft_wrap=True)
    for mode, why in planned["refused_modes"].items():
        console.print(escape(f"\nmode {mode}: no: {why}"), soft_wrap=True)


def machines(planned: dict[str, Any]) -> str:
    nodes = planned["nodes"]
    return f"{nodes} x {planned['machine']}" if nodes > 1 else str(planned["machine"])


def mode_lines(mode: str, figures: dict[str, Any], *, chosen: bool) -> list[str]:
    """One mode, and nothing of the other."""
    speeds = figures["speed"]["tok_s_per_request"]
    told = ", ".join(f"{speed:g} at {n}" for n, speed in speeds.items()) if speeds else "no figure"
    return [
        f"mode {mode}{' (chosen)' if chosen else ''}: {figures['max_context']:,} tokens of context",
        f"  a GPU holds {figures['weights_gib_per_gpu']:.2f} GiB of weights, "
        f"{figures['kv_gib_per_gpu']:.2f} GiB of KV cache (+-0.3); in all {figures['kv_tokens']:,} "
        "tokens",
        f"  tokens/s for each request, by requests at a time: {told}",
        f"    {figures['speed']['basis']}",
        "  flags",
        *(f"    {reason}" for reason in figures["reasons"]),
        "  context against requests at a time",
        *(f"    {line}" for line in picture(figures["frontier"])),
    ]


def picture(frontier: list[list[int]]) -> list[str]:
    """Bars on a logarithmic scale: one more `#` is about 1.2 times as many requests."""
    most = max(2, *(requests for _, requests in frontier))
    return [
        f"{short(context):>6} {'#' * bar(requests, most):<{BAR}} {requests}"
        for context, requests in frontier
    ]


def bar(requests: int, most: int) -> int:
    """1 for one request, BAR for the most; 0 for none."""
    if requests < 1:
        return 0
    return 1 + round((BAR - 1) * math.log(requests) / math.log(most))


def short(tokens: int) -> str:
    return f"{tokens // 1024}K" if tokens % 1024 == 0 else str(tokens)
