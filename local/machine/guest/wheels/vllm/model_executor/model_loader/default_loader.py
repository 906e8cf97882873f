"""The loaders that read safetensors from a folder."""

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vllm.config.load import LoadConfig
from vllm.model_executor.model_loader import weight_utils

INDEX = "model.safetensors.index.json"
PATTERNS = {"auto": "*.safetensors", "hf": "*.safetensors", "mistral": "consolidated*.safetensors"}
SAFETENSORS = ("safetensors", "fastsafetensors", "instanttensor")


class BaseModelLoader:
    def __init__(self, load_config: LoadConfig) -> None:
        self.load_config = load_config

    def load_weights(self, model: Any, model_config: Any) -> None:
        raise NotImplementedError


class DummyModelLoader(BaseModelLoader):
    """Random weights: no file is read."""

    def load_weights(self, model: Any, model_config: Any) -> None:
        model.is_dummy = True


class DefaultModelLoader(BaseModelLoader):
    @dataclass
    class Source:
        model_or_path: str
        revision: str | None
        subfolder: str | None = None
        prefix: str = ""
        fall_back_to_pt: bool = True
        allow_patterns_overrides: list[str] | None = None

    def _prepare_weights(
        self,
        model_name_or_path: str,
        subfolder: str | None,
        revision: str | None,
        fall_back_to_pt: bool,
        allow_patterns_overrides: list[str] | None,
    ) -> tuple[str, list[str], bool]:
        load_format = self.load_config.load_format
        if load_format not in (*PATTERNS, *SAFETENSORS):
            raise ValueError(f"Unknown load_format: {load_format}")
        patterns = allow_patterns_overrides or [PATTERNS.get(load_format, "*.safetensors")]
        folder = os.path.join(model_name_or_path, subfolder or "")
        files = [name for each in patterns for name in glob.glob(os.path.join(folder, each))]
        files = weight_utils.filter_duplicate_safetensors_files(files, folder, INDEX)
        if not files:
            raise RuntimeError(f"Cannot find any model weights with `{model_name_or_path}`")
        return folder, files, True

    def _get_weights_iterator(self, source: "DefaultModelLoader.Source") -> weight_utils.Weights:
        _, files, _ = self._prepare_weights(
            source.model_or_path,
            source.subfolder,
            source.revision,
            source.fall_back_to_pt,
            source.allow_patterns_overrides,
        )
        load_format = self.load_config.load_format
        name = load_format if load_format in SAFETENSORS else "safetensors"
        iterate = getattr(weight_utils, f"{name}_weights_iterator")
        weights = iterate(files, self.load_config.use_tqdm_on_load)
        return ((source.prefix + name, tensor) for name, tensor in weights)

    def get_all_weights(self, model_config: Any, model: Any) -> Iterator[tuple[str, Any]]:
        yield from self._get_weights_iterator(
            DefaultModelLoader.Source(model_config.model, model_config.revision)
        )

    def load_weights(self, model: Any, model_config: Any) -> None:
        model.load_weights(self.get_all_weights(model_config, model))
