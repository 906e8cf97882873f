"""What a model is made of, by part and layer, and what of it one pipeline stage has.

Layers are numbered from 0. Sizes are bytes before any parallelism.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace


class ShapeError(ValueError):
    """The config lacks what the arithmetic needs, or names something it does not know."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Weights of one kind, over all layers.

    size_bytes: on one GPU without tensor parallelism.
    ways: over at most how many ranks the engine can cut it; 1 = replicated, 0 = no limit.
    at: the layers that share it evenly. whole: every stage that has one of them holds all of it.
    made_at_load: no file holds it.
    """

    name: str
    size_bytes: float
    ways: int
    at: tuple[int, ...]
    whole: bool = False
    made_at_load: bool = False


@dataclass(frozen=True, kw_only=True)
class CacheLayers:
    """Layers whose KV cache is alike.

    elements: numbers kept per token, layer and rank before sharding.
    ways: over how many ranks the engine cuts them; 1 = replicated on every rank.
    window: tokens kept at most; None = all.
    extra_bytes: per token and layer whatever the cache's type (a sparse-attention indexer's keys).
    """

    at: tuple[int, ...]
    elements: int
    ways: int
    window: int | None = None
    extra_bytes: int = 0

    @property
    def layers(self) -> int:
        return len(self.at)


@dataclass(frozen=True, kw_only=True)
class StateLayers:
    """Layers of linear attention: a state of fixed size for each request, however long it is.

    size_bytes: per request and layer, cut over all ranks.
    """

    at: tuple[int, ...]
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A width that tensor parallelism divides: each share must be a multiple of `unit`."""

    name: str
    size: int
    unit: int = 1


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A whole model, or one pipeline stage of it.

    experts_per_token: how many each token goes to in a layer; 0 for a dense model.
    layers: of the whole model. states: None where no layer has linear attention.
    kv_type: "fp8" where the checkpoint itself asks for an fp8 KV cache, else "".
    """

    layers: int
    heads: int
    kv_heads: int
    hidden: int
    max_context: int
    experts_per_token: int
    parts: tuple[Part, ...]
    cache: tuple[CacheLayers, ...]
    states: StateLayers | None
    cuts: tuple[Cut, ...]
    latent: bool
    kv_type: str


def stage_sizes(layers: int, stages: int) -> list[int]:
    """How many layers each pipeline stage gets from vLLM: what is left over goes to the stages
    before the last, from the back, and the first comes last of all."""
    sizes = [layers // stages] * stages
    for number in range(layers % stages):
        sizes[-2 - number] += 1
    return sizes


def stages_of(shape: Shape, stages: int) -> Iterator[Shape]:
    """The model as vLLM cuts it into pipeline stages, first layers first."""
    if stages == 1:
        yield shape
        return
    start = 0
    for size in stage_sizes(shape.layers, stages):
        yield _between(shape, start, start + size)
        start += size


def _between(shape: Shape, start: int, end: int) -> Shape:
    def here(layers: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(layer for layer in layers if start <= layer < end)

    parts = (
        replace(
            part,
            at=here(part.at),
            size_bytes=part.size_bytes * (1 if part.whole else len(here(part.at)) / len(part.at)),
        )
        for part in shape.parts
        if here(part.at)
    )
    return replace(
        shape,
        parts=tuple(parts),
        cache=tuple(replace(c, at=here(c.at)) for c in shape.cache if here(c.at)),
        states=replace(shape.states, at=here(shape.states.at)) if shape.states else None,
    )
