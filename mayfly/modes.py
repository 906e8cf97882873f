"""Which engine settings serve a wish on a machine, and why: a profile's flags are computed here.

Two modes. `fast`: no decode context parallelism, a short context, many requests. `long`: the full
context, with as little context parallelism as reaches it. Each stands by itself.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mayfly.fit import (
    GIB,
    Fit,
    FitError,
    KvType,
    Setup,
    activations_gib,
    fit_shape,
    fit_stages,
    refuse,
    repeated_ranks,
    request_bytes,
    reserve_gib,
)
from mayfly.machines import GPUS, Gpu, MachineType
from mayfly.parts import Shape, stage_sizes

MODES = ("fast", "long")

# What the arithmetic may be wrong by. A context that needs it would be refused after two minutes
# on a rented machine.
MARGIN_GIB = 0.3
MOST_UTIL = 0.96
# From the most comfortable to the most frugal: utilisation, tokens of a prefill step. 0.92 is the
# engine's default; above 0.96 eight ranks have not been seen to start.
RUNGS = ((0.92, 8192), (0.92, 2048), (0.94, 2048), (MOST_UTIL, 2048))
FEWEST_SEQS = 8
LEAST_CONTEXT = 2048
CONTEXT_STEP = 4096


@dataclass(frozen=True, kw_only=True)
class Wish:
    """The longest context in tokens, and how many requests the engine takes at a time."""

    context_tokens: int
    concurrency: int


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a profile or a user fixes; None leaves it to the planner.

    util: the most. weights: bytes a GPU, exact.
    """

    tp: int | None = None
    dcp: int | None = None
    util: float | None = None
    kv_dtype: KvType = "auto"
    weights: float | None = None


@dataclass(frozen=True, kw_only=True)
class Target:
    """A model on machines of one type, with a pipeline stage on each. engine: vLLM's version."""

    shape: Shape
    machine: MachineType
    engine: str
    limits: Limits = Limits()
    nodes: int = 1

    @property
    def gpu(self) -> Gpu:
        return GPUS[self.machine.gpu]

    def refuse(self, setup: Setup) -> None:
        """FitError for what the engine refuses whatever the memory."""
        refuse(self.shape, setup, self.engine, self.gpu.capability)

    def fit(self, setup: Setup, margin_gib: float = 0.0) -> Fit:
        """What a GPU holds; margin_gib is left free beside the engine's reserve."""
        reserve = reserve_gib(self.shape, setup, self.engine, self.gpu.capability) + margin_gib
        if self.limits.weights:
            return fit_shape(self.shape, setup, self.gpu.gib, self.limits.weights, reserve)
        return fit_stages(self.shape, setup, self.gpu.gib, reserve)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One mode on one machine. context: tokens, what is served; reached: as long as was wished."""

    mode: str
    setup: Setup
    fit: Fit
    context: int
    reached: bool
    reasons: tuple[tuple[str, str], ...]

    @property
    def flags(self) -> tuple[str, ...]:
        """For `vllm serve`, in a fixed order."""
        return tuple(flag for flag, _ in self.reasons if flag.startswith("--"))


def choose(target: Target, mode: str, wish: Wish) -> Choice:
    """The settings for one mode on a machine: on all of its GPUs where the engine can.

    Less than the wished context is served where no more fits. Raises FitError where nothing does.
    """
    best: Choice | None = None
    for setup in _setups(target, mode, wish):
        target.refuse(setup)
        found = _on_rungs(target, mode, setup, wish)
        if found.reached:
            return found
        if best is None or found.context > best.context:
            best = found
    assert best is not None  # _setups yields once or more
    if best.context < LEAST_CONTEXT:
        raise FitError(_too_large(target, best))
    return best


def _setups(target: Target, mode: str, wish: Wish) -> Iterator[Setup]:
    """What to try, in this order: little context parallelism first, then many requests."""
    limits = target.limits
    tp = limits.tp or _most_ranks(target)
    most = repeated_ranks(target.shape, tp) if mode == "long" else 1
    for dcp in [limits.dcp] if limits.dcp else [2**n for n in range(most.bit_length())]:
        seqs = wish.concurrency
        while True:
            yield Setup(tp=tp, pp=target.nodes, dcp=dcp, seqs=seqs, kv_dtype=limits.kv_dtype)
            if seqs <= FEWEST_SEQS:
                break
            seqs = max(FEWEST_SEQS, seqs // 2)


def _most_ranks(target: Target) -> int:
    """All GPUs, or as many as the model can be cut over."""
    refused: FitError | None = None
    for tp in range(target.machine.gpus, 0, -1):
        try:
            target.refuse(Setup(tp=tp))
        except FitError as error:
            refused = refused or error
        else:
            return tp
    raise refused or FitError(f"{target.machine.name} has no GPU")


def _on_rungs(target: Target, mode: str, setup: Setup, wish: Wish) -> Choice:
    """The first rung that has the room, else the last."""
    wished = min(wish.context_tokens, target.shape.max_context or wish.context_tokens)
    most_util = target.limits.util or MOST_UTIL
    for rung, (util, batched) in enumerate(RUNGS):
        at = replace(setup, util=min(util, most_util), batched_tokens=batched)
        surely = target.fit(at, MARGIN_GIB)
        # Large prefill steps are for where two requests of full length fit all the same.
        if surely.kv_tokens >= (2 if rung == 0 else 1) * wished:
            break
    reached = surely.kv_tokens >= wished
    context = wished if reached else _round(surely.max_context)
    return Choice(
        mode=mode,
        setup=at,
        fit=target.fit(at),
        context=context,
        reached=reached,
        reasons=_reasons(target, at, context, wished),
    )


def _round(context: int) -> int:
    """A context people can remember."""
    step = CONTEXT_STEP if context >= 2 * CONTEXT_STEP else 1024
    return context // step * step


def frontier(choice: Choice) -> list[tuple[int, int]]:
    """(context, requests of that length at a time) for one mode, from 1,024 tokens up."""
    room = max(0.0, choice.fit.kv_gib) * GIB
    contexts = [2**n for n in range(10, 31) if 2**n < choice.context]
    return [
        (
            tokens,
            min(
                choice.setup.seqs,
                math.floor(room / request_bytes(choice.fit.stage, tokens, choice.setup)),
            ),
        )
        for tokens in (*contexts, choice.context)
    ]


def _too_large(target: Target, best: Choice) -> str:
    fit = best.fit
    return (
        f"{fit.weights_gib:.1f} GiB of weights and {fit.reserve_gib:.1f} for the engine leave no "
        f"context in {best.setup.util:g} of a GPU's {target.gpu.gib:.1f} GiB"
    )


def _reasons(
    target: Target, setup: Setup, context: int, wished: int
) -> tuple[tuple[str, str], ...]:
    """Each flag with its reason."""
    shape, machine = target.shape, target.machine
    ranks = "one GPU holds it whole" if setup.tp == 1 else f"{setup.tp} GPUs share every layer"
    idle = machine.gpus - setup.tp
    if idle:
        ranks += f"; {idle} stay idle, the model cannot be cut over all {machine.gpus}"
    found = [(f"--tensor-parallel-size={setup.tp}", ranks)]
    if setup.pp > 1:
        found += _pipeline(shape, setup)
    if setup.dcp > 1:
        why = f"{repeated_ranks(shape, setup.tp)} ranks keep the same KV heads: {setup.dcp} of them"
        found.append(
            (f"--decode-context-parallel-size={setup.dcp}", f"{why} share the context out")
        )
    found += [
        (f"--max-model-len={context}", _why_context(context, wished, shape)),
        (f"--gpu-memory-utilization={setup.util}", _why_util(setup)),
        (f"--max-num-seqs={setup.seqs}", "more would cost memory for CUDA graphs and sampling"),
        (
            f"--max-num-batched-tokens={setup.batched_tokens}",
            f"a prefill step; 1,024 more cost {activations_gib(shape, 1024):.2f} GiB of context",
        ),
    ]
    if setup.kv_dtype == "fp8":
        found.append(("--kv-cache-dtype=fp8", "asked for: half the bytes of each token"))
    elif shape.kv_type:
        found.append(
            (
                "--kv-cache-dtype=bfloat16",
                "the checkpoint asks for an fp8 KV cache: A100 has none, context parallelism "
                "refuses it, and H100 has garbled long talks with it",
            )
        )
    return tuple(found)


def _pipeline(shape: Shape, setup: Setup) -> list[tuple[str, str]]:
    sizes = ", ".join(str(size) for size in stage_sizes(shape.layers, setup.pp))
    return [
        (
            f"--pipeline-parallel-size={setup.pp}",
            f"a machine holds its share of the {shape.layers} layers: {sizes}",
        ),
        ("--distributed-executor-backend=ray", "the machines are one Ray cluster"),
    ]


def _why_context(context: int, wished: int, shape: Shape) -> str:
    if context < wished:
        return f"the longest that surely fits; {wished:,} were wished"
    return "the model's own limit" if context == shape.max_context else "as wished"


def _why_util(setup: Setup) -> str:
    if setup.util <= RUNGS[0][0]:
        return "the engine's default: there is room enough"
    return "above the engine's default: the context needs the room"
