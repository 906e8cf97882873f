"""Reads a model directory as far as vLLM does before it serves: every header, no tensor."""

import json
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

SIZES = {"BF16": 2, "F16": 2, "F32": 4, "I32": 4, "I64": 8, "I8": 1, "U8": 1, "F8_E4M3": 1}
_HEADER_LIMIT = 100_000_000
TOKENIZERS = ("tokenizer.json", "tiktoken.model", "tokenizer.model")


class LoadError(Exception):
    """Why vLLM dies; the text is what it says."""


@dataclass(frozen=True)
class Model:
    """What the rest needs to know."""

    architecture: str
    config: dict[str, Any]

    @property
    def text(self) -> dict[str, Any]:
        inner: dict[str, Any] = self.config.get("text_config", self.config)
        return inner

    @property
    def max_length(self) -> int:
        return int(self.text["max_position_embeddings"])


def read_json(path: Path) -> dict[str, Any]:
    try:
        whole: dict[str, Any] = json.loads(path.read_text())
    except OSError as error:
        raise LoadError(
            f"ValueError: Invalid repository ID or local directory specified: '{path.parent}'.\n"
            "Please verify the following requirements:\n"
            f"1. Provide a valid Hugging Face repository ID.\n2. Specify a local directory that "
            f"contains a recognized configuration file ({path.name})."
        ) from error
    except ValueError as error:
        raise LoadError(
            f"OSError: It looks like the config file at '{path}' is not a valid JSON file."
        ) from error
    return whole


def read(directory: Path, trusted: bool) -> Model:
    """Everything but the weights. Raises LoadError."""
    config = read_json(directory / "config.json")
    check_tokenizer(directory, trusted)
    return Model(config["architectures"][0], config)


def check_tokenizer(directory: Path, trusted: bool) -> None:
    settings = read_json(directory / "tokenizer_config.json")
    if "auto_map" in settings and not trusted:
        raise LoadError(
            f"ValueError: The repository {directory} contains custom code which must be executed "
            "to correctly load the model. Please pass the argument `trust_remote_code=True` to "
            "allow custom code to be run."
        )
    if not any((directory / name).is_file() for name in TOKENIZERS):
        raise LoadError(
            f"OSError: Can't load tokenizer for '{directory}'. Make sure it contains all relevant "
            "tokenizer files."
        )
    for name, _ in [entry.rsplit(".", 1) for entry in custom_code(settings)]:
        if not (directory / f"{name}.py").is_file():
            raise LoadError(f"OSError: {directory} does not appear to have a file named {name}.py.")


def custom_code(settings: dict[str, Any]) -> list[str]:
    found = []
    for value in settings.get("auto_map", {}).values():
        found += [entry for entry in (value if isinstance(value, list) else [value]) if entry]
    return found


def data_sizes(shard: Path) -> dict[str, int]:
    """Tensor -> bytes of data in one safetensors file, checked as the library checks it."""

    def broken(why: str) -> LoadError:
        return LoadError(
            f"safetensors_rust.SafetensorError: Error while deserializing header: {why} "
            f"({shard.name})"
        )

    size = shard.stat().st_size
    with shard.open("rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:
            raise broken("header too small")
        (length,) = struct.unpack("<Q", prefix)
        if length > _HEADER_LIMIT:
            raise broken("header too large")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise broken("invalid JSON in header") from error
    end, sizes = 0, {}
    header.pop("__metadata__", None)
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = entry["data_offsets"]
        if start != end or stop - start != prod(entry["shape"]) * SIZES[entry["dtype"]]:
            raise broken(f"invalid offset for tensor `{name}`")
        end = stop
        sizes[name] = stop - start
    if 8 + length + end != size:
        raise broken("incomplete metadata, file not fully covered")
    return sizes
