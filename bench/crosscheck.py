"""The same load through our benchmark and through `vllm bench serve`, turn about, on one server.

    PYTHONPATH=SITE python bench/crosscheck.py --tokenizer DIR --out FILE [--loads 1:8,8:64,32:256]

SITE holds vLLM, whose benchmark runs in this process (what `vllm bench serve` calls), so that its
imports are paid once; ours runs as the command it is. The endpoint is $OPENAI_BASE_URL with
$OPENAI_API_KEY, as for bench/benchmark.py. FILE gets one JSON object with every run's own figures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
INPUT_TOKENS, OUTPUT_TOKENS, WARM_UPS, REPEATS = 512, 128, 2, 2
KEPT = ("completed", "failed", "duration", "output_throughput", "total_input_tokens")
SPREADS = tuple(
    f"{what}_{name}_ms"
    for name in ("ttft", "tpot", "itl", "e2el")
    for what in ("mean", "median", "p50", "p90", "p99")
)


def ours(concurrency: int, requests: int, seed: int, folder: Path) -> dict[str, Any]:
    """Our phase's figures. Raises CalledProcessError when a request failed."""
    result = folder / "ours.json"
    command = [sys.executable, "bench/benchmark.py", "--max-concurrency", str(concurrency)]
    command += ["--requests", str(requests), "--input-tokens", str(INPUT_TOKENS)]
    command += ["--output-tokens", str(OUTPUT_TOKENS), "--warmup", str(WARM_UPS)]
    command += ["--seed", str(seed), "--out", str(result)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])}
    subprocess.run(command, cwd=ROOT, env=env, check=True, timeout=240)
    (phase,) = json.loads(result.read_text())["phases"]
    return {key: value for key, value in phase.items() if key != "samples"}


def theirs(concurrency: int, requests: int, seed: int, tokenizer: Path) -> dict[str, Any]:
    """vLLM's own figures of the same load."""
    from vllm.benchmarks import serve
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = FlexibleArgumentParser()
    serve.add_cli_args(parser)
    base = os.environ["OPENAI_BASE_URL"].removesuffix("/v1")
    words = ["--backend", "openai-chat", "--endpoint", "/v1/chat/completions", "--base-url", base]
    words += ["--model", os.environ.get("MODEL", "kimi-k2.5"), "--tokenizer", str(tokenizer)]
    words += ["--dataset-name", "random", "--random-input-len", str(INPUT_TOKENS)]
    words += ["--random-output-len", str(OUTPUT_TOKENS), "--ignore-eos", "--temperature", "0"]
    words += ["--num-prompts", str(requests), "--num-warmups", str(WARM_UPS)]
    words += ["--max-concurrency", str(concurrency), "--seed", str(seed), "--disable-tqdm"]
    words += ["--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,90,99"]
    said = serve.main(parser.parse_args(words))
    return {key: said[key] for key in (*KEPT, *SPREADS) if key in said}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--loads", default="1:8,8:64,32:256", help="CONCURRENCY:REQUESTS, ...")
    options = parser.parse_args()
    loads = [tuple(map(int, pair.split(":"))) for pair in options.loads.split(",")]
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(REPEATS):
            for concurrency, requests in loads:
                seed = 1000 * repeat + concurrency
                what = {"concurrency": concurrency, "requests": requests, "repeat": repeat}
                phase = ours(concurrency, requests, seed, Path(folder))
                runs.append({**what, "client": "mayfly", "figures": phase})
                said = theirs(concurrency, requests, seed + 500, options.tokenizer)
                runs.append({**what, "client": "vllm", "figures": said})
                options.out.write_text(json.dumps({"runs": runs}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
