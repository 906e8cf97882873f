"""A checkpoint's exact size on a GPU, from its safetensors headers; no weight is read.

In a folder, or in a bucket, where of each shard only its beginning is asked for.

A safetensors file begins with 8 bytes, the length of a JSON header that names every tensor's type,
shape and place.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mayfly.errors import WrongInputError
from mayfly.parts import Shape

if TYPE_CHECKING:
    from mayfly.cloud import Cloud  # a plan without a bucket does not wait for it

LONGEST_HEADER = 100_000_000
"""What the safetensors library itself accepts, in bytes."""
FIRST_READ = 1 << 20
"""Most headers end within it, so that a shard in a bucket takes one call."""

# The first that is found in a tensor's name says how the engine cuts it: 0 = over all ranks,
# 1 = not at all, -1 = over as many as there are KV heads; None = not loaded with text only.
RULES: tuple[tuple[str, int | None], ...] = (
    (r"vision|visual|mm_projector|multi_modal", None),
    (r"norm", 1),
    (r"self_attn\.(q_a_proj|kv_a_proj)", 1),
    (r"self_attn\.kv_b_proj", 0),
    (r"self_attn\.(k_proj|v_proj)", -1),
    (r"self_attn\.", 0),
    (r"\.experts\.", 0),
    (r"mlp\.gate\.|router|shared_expert_gate", 1),
    (r"mlp\.|shared_expert", 0),
    (r"embed_tokens|lm_head", 0),
)


@dataclass(frozen=True)
class Shard:
    """One safetensors file. read: its bytes from `start` to before `end`, or fewer at its end."""

    name: str
    read: Callable[[int, int], bytes]


def in_folder(folder: Path) -> list[Shard]:
    """The shards of a folder."""

    def reader(path: Path) -> Callable[[int, int], bytes]:
        def read(start: int, end: int) -> bytes:
            with path.open("rb") as file:
                file.seek(start)
                return file.read(end - start)

        return read

    return [Shard(str(path), reader(path)) for path in sorted(folder.glob("*.safetensors"))]


def in_bucket(cloud: "Cloud", uri: str) -> list[Shard]:
    """The shards below a gs:// address. CloudError where it cannot be read."""
    bucket, _, prefix = uri.removeprefix("gs://").partition("/")
    prefix = prefix.rstrip("/") + "/"

    def reader(name: str) -> Callable[[int, int], bytes]:
        return lambda start, end: cloud.storage.read(bucket, name, start, end) or b""

    listed = (str(item["name"]) for item in cloud.storage.list(bucket, prefix))
    names = sorted(
        name for name in listed if re.fullmatch(r"[^/]+\.safetensors", name[len(prefix) :])
    )
    return [Shard(f"gs://{bucket}/{name}", reader(name)) for name in names]


def weights_bytes_per_gpu(shards: list[Shard], shape: Shape, tp: int) -> float:
    """Bytes of a checkpoint on one of `tp` ranks. WrongInputError for a shard without a header.

    What the engine makes at load (absorbed projections) comes from the arithmetic.
    """
    kv_ways = 1 if shape.latent else shape.kv_heads
    total = sum(part.size_bytes / tp for part in shape.parts if part.made_at_load)
    for name, size in tensors(shards):
        ways = next((ways for rule, ways in RULES if re.search(rule, name)), 1)
        if ways is not None:
            total += size / (tp if ways == 0 else min(tp, kv_ways if ways < 0 else ways))
    return total


def tensors(shards: list[Shard]) -> Iterator[tuple[str, int]]:
    """Each tensor's name and bytes, over all shards."""
    for shard in shards:
        for name, entry in _header(shard).items():
            if name != "__metadata__":
                start, end = entry["data_offsets"]
                yield name, int(end) - int(start)


def _header(shard: Shard) -> Mapping[str, Any]:
    first = shard.read(0, FIRST_READ)
    length = int.from_bytes(first[:8], "little")
    text = first[8 : 8 + length]
    if len(text) < length <= LONGEST_HEADER:
        text += shard.read(len(first), 8 + length)
    try:
        header = json.loads(text) if len(text) == length else None
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise WrongInputError(f"{shard.name} has no safetensors header: is it whole?")
    return header
