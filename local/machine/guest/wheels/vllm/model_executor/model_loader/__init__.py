"""Load formats, and what plugins add to them."""

import logging
from collections.abc import Callable

from vllm.config.load import LoadConfig
from vllm.model_executor.model_loader.default_loader import (
    BaseModelLoader,
    DefaultModelLoader,
    DummyModelLoader,
)

__all__ = ["BaseModelLoader", "DefaultModelLoader", "get_model_loader", "register_model_loader"]

logger = logging.getLogger(__name__)
_LOADERS: dict[str, type[BaseModelLoader]] = {
    "auto": DefaultModelLoader,
    "hf": DefaultModelLoader,
    "safetensors": DefaultModelLoader,
    "fastsafetensors": DefaultModelLoader,
    "instanttensor": DefaultModelLoader,
    "mistral": DefaultModelLoader,
    "dummy": DummyModelLoader,
}

Loader = type[BaseModelLoader]


def register_model_loader(load_format: str) -> Callable[[Loader], Loader]:
    def register(loader: Loader) -> Loader:
        if not issubclass(loader, BaseModelLoader):
            raise ValueError("The model loader must be a subclass of `BaseModelLoader`.")
        _LOADERS[load_format] = loader
        logger.info("Registered model loader `%s` with load format `%s`", loader, load_format)
        return loader

    return register


def get_model_loader(load_config: LoadConfig) -> BaseModelLoader:
    if load_config.load_format not in _LOADERS:
        raise ValueError(f"Load format `{load_config.load_format}` is not supported")
    return _LOADERS[load_config.load_format](load_config)
