"""The engine in a program's own process: `vllm.LLM`, as strict as the command line."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vllm import arguments, checkpoint, kernels, launch, plugins, weights
from vllm import machine as machines
from vllm.checkpoint import LoadError, Model
from vllm.engine import PREFILL_TOKENS_PER_S


class SamplingParams:
    """What this engine heeds of it."""

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        max_tokens: int = 16,
        ignore_eos: bool = False,
        detokenize: bool = True,
    ) -> None:
        if max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {max_tokens}.")
        self.temperature, self.max_tokens = temperature, max_tokens
        self.ignore_eos, self.detokenize = ignore_eos, detokenize


class LLM:
    """Loads as `vllm serve` does, and says so; answers at the machine's pace."""

    def __init__(self, model: str, **given: Any) -> None:
        options = options_of(model, given)
        try:
            self._cache = load(Path(model), options)
        except LoadError as error:
            said = f"EngineCore failed to start.\n{error}"
            launch.log(said, "core.py:1108", "EngineCore", "ERROR")
            raise RuntimeError(
                "Engine core initialization failed. See root cause above. Failed core proc(s): {}"
            ) from None
        self._tokens_per_s = machines.Machine.here().tokens_per_s
        self._keeps = options.enable_prefix_caching is not False
        self._seen: set[tuple[int, ...]] = set()

    def generate(
        self,
        prompts: Sequence[Mapping[str, Sequence[int]]],
        params: SamplingParams,
        use_tqdm: bool = True,
    ) -> list[None]:
        """All at once, in the time that it takes; nobody reads the tokens."""
        asked = [tuple(prompt["prompt_token_ids"]) for prompt in prompts]
        longest = max(len(tokens) for tokens in asked)
        if longest >= self._cache.max_length:
            raise ValueError(
                f"The decoder prompt (length {longest}) is longer than the maximum model length "
                f"of {self._cache.max_length}."
            )
        new = sum(len(tokens) for tokens in asked if tokens not in self._seen)
        if self._keeps:
            self._seen.update(asked)
        time.sleep(new / PREFILL_TOKENS_PER_S + params.max_tokens / self._tokens_per_s)
        return [None] * len(asked)


def options_of(model: str, given: Mapping[str, Any]) -> Any:
    """Keyword arguments through the parser of the command line: it knows them and their types."""
    parser = arguments.parser()
    known = vars(parser.parse_args(["serve"]))
    words = ["serve", model]
    for name, value in given.items():
        if name not in known:
            raise TypeError(f"EngineArgs.__init__() got an unexpected keyword argument '{name}'")
        flag = "--" + name.replace("_", "-")
        if value is False and known[name] is False:
            continue
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            words.append(f"{flag}={json.dumps(value) if isinstance(value, dict) else value}")
    return parser.parse_args(words)


def load(folder: Path, options: Any) -> machines.Cache:
    """Everything up to the first prompt. Raises LoadError."""
    begun = time.monotonic()
    plugins.load_general_plugins()
    here = machines.Machine.here()
    config = checkpoint.read_json(folder / "config.json")
    if not options.skip_tokenizer_init:
        checkpoint.check_tokenizer(folder, bool(options.trust_remote_code))
    model = Model(config.get("architectures", [""])[0], config)
    machines.check_gpus(here, options, os.environ)
    launch.log(f"Starting to load model {folder}...", "gpu_model_runner.py:5160", "EngineCore")
    time.sleep(here.load_s)
    loaded = weights.load(folder, options)
    kernels.warm_up(here, model, options, launch.log)
    cache = machines.plan_cache(here, model, options)
    size = loaded.total_bytes or int(machines.weights_gib(here, model, options) * 2**30)
    launch.report_load(size, cache, time.monotonic() - begun)
    return cache
