"""From files to tensors. A tensor here is where it lies and how large it is: nobody computes."""

import importlib.metadata
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vllm.checkpoint import data_sizes


class Tensor(NamedTuple):
    shard: str
    nbytes: int


Weights = Iterator[tuple[str, Tensor]]


def filter_duplicate_safetensors_files(
    hf_weights_files: list[str], hf_folder: str, index_file: str
) -> list[str]:
    """Only those that the index names, if there is one."""
    index = os.path.join(hf_folder, index_file)
    if not os.path.isfile(index):
        return hf_weights_files
    with open(index) as file:
        weight_map = json.load(file)["weight_map"]
    named = {os.path.join(hf_folder, name) for name in weight_map.values()}
    return [name for name in hf_weights_files if name in named]


def safetensors_weights_iterator(hf_weights_files: list[str], use_tqdm_on_load: bool) -> Weights:
    for number, name in enumerate(sorted(hf_weights_files), 1):
        for tensor, size in data_sizes(Path(name)).items():
            yield tensor, Tensor(os.path.basename(name), size)
        if use_tqdm_on_load:
            share = 100 * number // len(hf_weights_files)
            print(f"Loading safetensors checkpoint shards: {share:3d}% Completed", flush=True)


def fastsafetensors_weights_iterator(
    hf_weights_files: list[str], use_tqdm_on_load: bool
) -> Weights:
    if not is_installed("fastsafetensors"):
        raise ModuleNotFoundError("No module named 'fastsafetensors'")
    yield from safetensors_weights_iterator(hf_weights_files, use_tqdm_on_load)


def instanttensor_weights_iterator(hf_weights_files: list[str], use_tqdm_on_load: bool) -> Weights:
    if not is_installed("instanttensor"):
        raise ImportError("Please install instanttensor via `pip install instanttensor`")
    yield from safetensors_weights_iterator(hf_weights_files, use_tqdm_on_load)


def is_installed(name: str) -> bool:
    """Stand-in uv leaves every package's metadata, though not its code."""
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
