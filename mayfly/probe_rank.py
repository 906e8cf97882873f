"""One rank with the real engine, measured from inside: the child process of mayfly/probe.py.

    PYTHON -m mayfly.probe_rank '{"config": {...}, "llm": {...}, "decode": [1, 8], ...}'

PYTHON has vLLM. The weights are made up (`load_format="dummy"`); no tokenizer is needed. Each
measurement is one line `RESULT {...}`, so that a time limit loses only what comes after it.
"""

import importlib
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

GIB = 2**30
RUNS = 5


class Rank:
    """One engine, several measurements. Times are seconds of wall clock around generate()."""

    def __init__(self, folder: str, arguments: Mapping[str, Any], vocabulary: int) -> None:
        start = time.perf_counter()
        vllm = importlib.import_module("vllm")
        self.import_s = time.perf_counter() - start
        self._params = vllm.SamplingParams
        self._vocabulary = vocabulary
        self._llm = vllm.LLM(
            model=folder, load_format="dummy", skip_tokenizer_init=True, **arguments
        )
        self.ready_s = time.perf_counter() - start

    def decode(self, batch: int, prompt_tokens: int = 512, tokens: int = 128) -> dict[str, float]:
        """Tokens per second: long minus short run, so that prefill and overhead cancel out.

        The middle of RUNS such pairs, with least and most: two pairs were seen 12 % apart.
        """
        asked = prompts(self._vocabulary, batch, prompt_tokens)
        self._seconds(asked, 4)
        rates = [
            tokens / (self._seconds(asked, 8 + tokens) - self._seconds(asked, 8))
            for _ in range(RUNS)
        ]
        rate = statistics.median(rates)
        return {
            "per_request_tok_s": round(rate, 1),
            "total_tok_s": round(batch * rate, 1),
            "least": round(min(rates), 1),
            "most": round(max(rates), 1),
        }

    def prefill(self, tokens: int) -> dict[str, float]:
        """Prompt tokens per second to the first new token, best of two.

        again_s: seconds when the same prompt comes once more.
        """
        asked = [prompts(self._vocabulary, 1, tokens) for _ in range(2)]
        best = min(self._seconds(prompt, 1) for prompt in asked)
        again = self._seconds(asked[-1], 1)
        return {
            "seconds": round(best, 3),
            "tok_s": round(tokens / best, 1),
            "again_s": round(again, 3),
        }

    def _seconds(self, asked: list[dict[str, list[int]]], new_tokens: int) -> float:
        params = self._params(
            temperature=0, max_tokens=new_tokens, ignore_eos=True, detokenize=False
        )
        start = time.perf_counter()
        self._llm.generate(asked, params, use_tqdm=False)
        return time.perf_counter() - start


def prompts(vocabulary: int, batch: int, tokens: int) -> list[dict[str, list[int]]]:
    """Random token ids: no tokenizer, and no prefix that two requests share."""
    return [
        {"prompt_token_ids": [random.randrange(3, vocabulary) for _ in range(tokens)]}
        for _ in range(batch)
    ]


def measure(case: Mapping[str, Any]) -> None:
    """Start the engine on the case's config and say what it does."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(case["config"]), encoding="utf-8")
        rank = Rank(folder, case["llm"], int(case["config"]["vocab_size"]))
        say({"import_s": round(rank.import_s, 1), "ready_s": round(rank.ready_s, 1)})
        for batch in case.get("decode", []):
            say({f"decode batch {batch}": rank.decode(batch)})
        for tokens in case.get("decode_at", []):
            say({f"decode at {tokens}": rank.decode(1, tokens)})
        for tokens in case.get("prefill", []):
            say({f"prefill {tokens}": rank.prefill(tokens)})
        # Last: asking makes a CUDA context in this process, which takes memory of its own.
        _, total = importlib.import_module("torch").cuda.mem_get_info()
        say({"gpu_gib": round(total / GIB, 2)})


def say(figures: Mapping[str, Any]) -> None:
    print("RESULT " + json.dumps(figures), flush=True)


if __name__ == "__main__":
    measure(json.loads(sys.argv[1]))
