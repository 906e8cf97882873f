"""The loader itself. Imported by vLLM's processes only.

Of vLLM 0.24.0 it relies on: DefaultModelLoader, whose `_get_weights_iterator(source)` asks
`_prepare_weights(...)` for (folder, files, whether they are safetensors) and hands the files to
the iterator of `load_config.load_format`; on its Source's model_or_path, subfolder, prefix and
allow_patterns_overrides; on weight_utils' filter_duplicate_safetensors_files; on parallel_state's
is_global_first_rank. Where one is missing vLLM ends, and stage serve starts it again without
this plugin.
"""

import copy
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vllm.distributed.parallel_state import is_global_first_rank
from vllm.model_executor.model_loader import DefaultModelLoader, weight_utils

from startup.vllm_plugin import shards

INNER = ("safetensors", "fastsafetensors", "instanttensor")
INDEX = "model.safetensors.index.json"

log = logging.getLogger("vllm.mayfly")  # below "vllm", whose handler prints it


class ArrivingLoader(DefaultModelLoader):
    """Loads groups of shards as they arrive, each through the load format MAYFLY_LOAD_FORMAT."""

    def __init__(self, load_config: Any) -> None:
        inner = os.environ.get("MAYFLY_LOAD_FORMAT") or "safetensors"
        if inner not in INNER:
            raise ValueError(f"MAYFLY_LOAD_FORMAT is {inner!r}; it can be: {', '.join(INNER)}")
        own = copy.copy(load_config)
        own.load_format = inner
        own.use_tqdm_on_load = False  # a bar a group; the lines below say the same
        self._group: tuple[str, list[str], bool] | None = None
        super().__init__(own)

    def _get_weights_iterator(self, source: Any) -> Iterator[tuple[str, Any]]:
        arrivals = shards.expected()
        if arrivals is None or not _is_same(source.model_or_path, arrivals.folder):
            return super()._get_weights_iterator(source)  # a draft model, or nobody's session
        if source.subfolder is not None or source.allow_patterns_overrides is not None:
            shards.wait(arrivals.shards, arrivals, _tell)
            return super()._get_weights_iterator(source)
        return self._as_they_come(source, arrivals)

    def _as_they_come(self, source: Any, arrivals: shards.Arrivals) -> Iterator[tuple[str, Any]]:
        began, waited_s = time.monotonic(), 0.0
        groups = shards.groups(self._wanted(arrivals))
        count, inner = sum(map(len, groups)), self.load_config.load_format
        _tell(f"{count} shards in {len(groups)} groups to {inner}")
        for number, files in enumerate(groups, 1):
            group_waited_s = shards.wait(files, arrivals, _tell)
            waited_s += group_waited_s
            _tell(f"group {number} of {len(groups)} is here, waited {group_waited_s:.1f} s")
            yield from self._load(source, [str(arrivals.folder / file.name) for file in files])
        loaded_s = time.monotonic() - began - waited_s
        _tell(f"all groups loaded: waited {waited_s:.1f} s for them, loaded {loaded_s:.1f} s")

    def _wanted(self, arrivals: shards.Arrivals) -> list[Any]:
        """Without the second copy of the same weights that some checkpoints carry."""
        folder = str(arrivals.folder)
        by_path = {str(arrivals.folder / file.name): file for file in arrivals.shards}
        kept = weight_utils.filter_duplicate_safetensors_files(list(by_path), folder, INDEX)
        if not kept:
            raise RuntimeError(f"the manifest and {INDEX} have no shard of {folder} in common")
        return [by_path[path] for path in kept]

    def _load(self, source: Any, files: list[str]) -> Iterator[tuple[str, Any]]:
        self._group = (os.path.dirname(files[0]), files, True)
        try:
            iterator = super()._get_weights_iterator(source)
        finally:
            self._group = None
        yield from iterator

    def _prepare_weights(self, *args: Any, **more: Any) -> tuple[str, list[str], bool]:
        return self._group or super()._prepare_weights(*args, **more)


def _is_same(path: str, folder: Path) -> bool:
    return os.path.realpath(path) == os.path.realpath(folder)


def _tell(text: str) -> None:
    """Once, not once a GPU."""
    if is_global_first_rank():
        log.info("mayfly: %s", text)
