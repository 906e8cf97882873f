"""What a profile is made of: its engine, how it is seeded, where it is offered."""

from dataclasses import dataclass

LOAD_FORMATS = ("safetensors", "fastsafetensors", "instanttensor")
"""vLLM's ways from the files to the GPU that the locked environments hold.

On one H100, 44.9 GB from RAM: fastsafetensors 3.6 s, instanttensor 4.2 s, safetensors 31.6 s; on
eight, instanttensor is the quickest by far (docs/results/cold-start.md)."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """The locked environment that serves the model.

    vllm: version. lock: file name in startup/locks/. driver_branch: e.g. "580".
    load_format: of LOAD_FORMATS.
    """

    vllm: str
    lock: str
    driver_branch: str
    load_format: str


@dataclass(frozen=True, kw_only=True)
class Seeding:
    """How the weights come from the hub: files in flight at a time, and the disk they need (GB)."""

    disk_gb: int
    parallel: int


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A speculative decoding head that exists. Not served: its files are a second repository.

    tokens: how many it proposes at a time.
    """

    model: str
    method: str
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A machine that a profile is offered on. util: the most of its GPUs' memory, None = no say."""

    util: float | None = None
    flags: tuple[str, ...] = ()
