"""Measure one tensor-parallel rank with the real vLLM on one GPU, dummy weights, case by case.

    python bench/probe.py --config HUB_CONFIG.json --tp 8 --cases CASES.json --out DIR

CASES.json: a list of {"name", "llm": {arguments of vllm.LLM}, "decode": [batch...],
"prefill": [tokens...], "decode_at": [tokens...], "env": {...}, "layers": n, "limit_s": n}.
Each case runs in a process of its own; DIR/results.jsonl gets one line a case, DIR/<name>.log the
engine's own log. `decode_at` needs prefix caching, else two long prefills drown what it measures.
What a rank leaves out: see mayfly/rank.py.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# The engine's own words (vLLM 0.24.0), turned into figures.
LOG_FIGURES = {
    "weights_gib": r"Model loading took ([\d.]+) GiB",
    "kv_gib": r"Available KV cache memory: (-?[\d.]+) GiB",
    "kv_tokens": r"GPU KV cache size: ([\d,]+) tokens",
    "compile_s": r"torch\.compile took ([\d.]+) s",
    "graphs_s": r"Graph capturing finished in ([\d.]+) secs",
    "graphs_gib": r"Graph capturing finished in [\d.]+ secs, took (-?[\d.]+) GiB",
    "init_s": r"init engine \(.*?\) took ([\d.]+) s",
}
LOG_WORDS = {
    "attention": r"Using (\S+) attention backend",
    "moe": r"Using '?(\w+)'? (?:WNA16 )?Mo[eE] backend",
}


def read_log(text: str) -> dict[str, Any]:
    """What the engine said of memory, time and kernels; a figure it did not print is None."""
    found: dict[str, Any] = {}
    for name, pattern in LOG_FIGURES.items():
        hit = re.search(pattern, text)
        found[name] = float(hit.group(1).replace(",", "")) if hit else None
    for name, pattern in LOG_WORDS.items():
        hit = re.search(pattern, text)
        found[name] = hit.group(1) if hit else None
    return found


def prompts(vocabulary: int, batch: int, tokens: int) -> list[dict[str, list[int]]]:
    """Random token ids: no tokenizer, and no prefix that two requests share."""
    return [
        {"prompt_token_ids": [random.randrange(3, vocabulary) for _ in range(tokens)]}
        for _ in range(batch)
    ]


class Probe:
    """One engine, several measurements. Times are seconds of wall clock around generate()."""

    def __init__(self, model: str, arguments: dict[str, Any], vocabulary: int) -> None:
        start = time.perf_counter()
        from vllm import LLM, SamplingParams

        self.import_s = time.perf_counter() - start
        self._params = SamplingParams
        self._vocabulary = vocabulary
        self._llm = LLM(model=model, load_format="dummy", skip_tokenizer_init=True, **arguments)
        self.ready_s = time.perf_counter() - start

    def seconds(self, asked: list[dict[str, list[int]]], new_tokens: int) -> float:
        params = self._params(
            temperature=0, max_tokens=new_tokens, ignore_eos=True, detokenize=False
        )
        start = time.perf_counter()
        self._llm.generate(asked, params, use_tqdm=False)
        return time.perf_counter() - start

    def decode(self, batch: int, prompt_tokens: int = 512, tokens: int = 128) -> dict[str, float]:
        """Tokens per second: long minus short run, so that prefill and overhead cancel out."""
        asked = prompts(self._vocabulary, batch, prompt_tokens)
        self.seconds(asked, 4)
        short = min(self.seconds(asked, 8) for _ in range(2))
        longer = self.seconds(asked, 8 + tokens)
        rate = tokens / (longer - short)
        return {"per_request_tok_s": round(rate, 1), "total_tok_s": round(batch * rate, 1)}

    def prefill(self, tokens: int) -> dict[str, float]:
        """Prompt tokens per second to the first new token, best of two."""
        best = min(self.seconds(prompts(self._vocabulary, 1, tokens), 1) for _ in range(2))
        return {"seconds": round(best, 3), "tok_s": round(tokens / best, 1)}


def run_case(case: dict[str, Any], model: str, vocabulary: int) -> None:
    probe = Probe(model, case["llm"], vocabulary)
    say({"import_s": round(probe.import_s, 1), "ready_s": round(probe.ready_s, 1)})
    for batch in case.get("decode", []):
        say({f"decode batch {batch}": probe.decode(batch)})
    for tokens in case.get("decode_at", []):
        say({f"decode at {tokens}": probe.decode(1, tokens, 128)})
    for tokens in case.get("prefill", []):
        say({f"prefill {tokens}": probe.prefill(tokens)})


def say(figures: dict[str, Any]) -> None:
    """One line a measurement: what was measured before a time limit is not lost."""
    print("RESULT " + json.dumps(figures), flush=True)


def write_model(config: Path, tp: int, layers: int | None, folder: Path) -> int:
    """Write the rank's config.json into folder; returns its vocabulary."""
    from mayfly.rank import rank_config

    rank = rank_config(json.loads(config.read_text()), tp)
    if layers:
        rank["num_hidden_layers"] = layers
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(rank))
    return int(rank["vocab_size"])


def start_case(case: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Run one case in its own process, within its time limit; a failure is a result too."""
    log_path = options.out / f"{case['name']}.log"
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_USE_FLASHINFER_SAMPLER": "0",
        **case.get("env", {}),
    }
    command = [sys.executable, __file__, "--one", json.dumps(case), "--config", str(options.config)]
    command += ["--tp", str(options.tp), "--out", str(options.out)]
    with log_path.open("w") as log:
        child = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = child.communicate(timeout=case.get("limit_s", 280))
            code: int | str = child.returncode
        except subprocess.TimeoutExpired:
            # The engine is a process of its own that would keep the GPU's memory.
            os.killpg(child.pid, signal.SIGKILL)
            output, _ = child.communicate()
            code = "time limit"
    with log_path.open("a") as log:
        log.write(output)
    text = log_path.read_text(errors="replace")
    measured: dict[str, Any] = {}
    for line in re.findall(r"^RESULT (.*)$", output, re.M):
        measured.update(json.loads(line))
    if code != 0:
        measured["error"] = text[-800:]
    return {"case": case, "exit": code, **read_log(text), **measured}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--tp", type=int, required=True)
    parser.add_argument("--cases", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--one", help="internal: one case as JSON, in this process")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.one:
        case = json.loads(options.one)
        folder = Path("/tmp") / f"rank-{options.tp}-{case.get('layers', 'all')}"
        vocabulary = write_model(options.config, options.tp, case.get("layers"), folder)
        run_case(case, str(folder), vocabulary)
        return 0
    failed = 0
    for case in json.loads(options.cases.read_text()):
        started = time.perf_counter()
        result = start_case(case, options)
        result["wall_s"] = round(time.perf_counter() - started, 1)
        failed += result["exit"] != 0
        with (options.out / "results.jsonl").open("a") as file:
            file.write(json.dumps(result) + "\n")
        brief = {k: v for k, v in result.items() if k != "case"}
        print(case["name"], json.dumps(brief), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
