"""The model's weights as they come from a loader."""

import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vllm.checkpoint import LoadError, read_json
from vllm.config.load import LoadConfig
from vllm.model_executor import model_loader


@dataclass
class ModelConfig:
    """What a loader asks of it."""

    model: str
    revision: str | None = None


@dataclass
class Weights:
    """A model that keeps account of what it is given."""

    folder: Path
    is_dummy: bool = False
    shard_of: dict[str, str] = field(default_factory=dict)
    total_bytes: int = 0

    def load_weights(self, weights: Iterator[tuple[str, Any]]) -> None:
        for name, tensor in weights:
            self.shard_of[name] = tensor.shard
            self.total_bytes += tensor.nbytes

    def check(self) -> None:
        """Every tensor of the index came from its shard."""
        index = self.folder / "model.safetensors.index.json"
        if self.is_dummy or not index.exists():
            return
        weight_map: dict[str, str] = read_json(index)["weight_map"]
        missing = sorted(n for n, shard in weight_map.items() if self.shard_of.get(n) != shard)
        if missing:
            shown = ", ".join(repr(name) for name in missing[:4])
            raise LoadError(
                f"ValueError: Following weights were not initialized from checkpoint: {{{shown}}}"
            )


def load(folder: Path, options: Any) -> Weights:
    """By the loader that --load-format names. Raises LoadError."""
    config = LoadConfig(
        load_format=(options.load_format or "auto").lower(),
        model_loader_extra_config=options.model_loader_extra_config or {},
        safetensors_load_strategy=options.safetensors_load_strategy,
    )
    weights = Weights(folder)
    try:
        model_loader.get_model_loader(config).load_weights(weights, ModelConfig(str(folder)))
    except LoadError:
        raise
    except Exception as error:  # a plugin may raise anything: vLLM dies of it, with its trace
        raise LoadError(traceback.format_exc().rstrip()) from error
    weights.check()
    return weights
