"""The flags of `vllm serve` 0.24.0 that a profile may use, with their types and choices."""

import argparse
import json
import re
import sys
from typing import Any

INTEGERS = (
    *("--port", "--data-parallel-size", "--max-num-seqs", "--max-num-batched-tokens"),
    *("--max-cudagraph-capture-size", "--block-size", "--seed", "--max-logprobs", "--nnodes"),
    *("--node-rank", "--master-port", "--api-server-count", "--num-gpu-blocks-override"),
    *("--max-num-partial-prefills", "--long-prefill-token-threshold"),
)
FLOATS = ("--gpu-memory-utilization", "--kv-offloading-size")
TEXTS = (
    *("--host", "--root-path", "--tokenizer", "--revision", "--code-revision", "--chat-template"),
    *("--tokenizer-revision", "--generation-config", "--master-addr", "--download-dir"),
    *("--ssl-keyfile", "--ssl-certfile", "--quantization", "--attention-backend"),
    *("--response-role", "--hf-config-path", "--config-format"),
    "--load-format",  # any: plugins add theirs, and the loader says what it does not know
)
JSONS = (
    *("--allowed-origins", "--allowed-methods", "--allowed-headers", "--speculative-config"),
    *("--compilation-config", "--model-loader-extra-config", "--hf-overrides"),
    *("--override-generation-config", "--limit-mm-per-prompt", "--additional-config"),
    *("--default-chat-template-kwargs",),
)
SWITCHES = (
    *("--disable-fastapi-docs", "--enable-server-load-tracking", "--headless"),
    *("--enable-auto-tool-choice", "--disable-log-stats", "--disable-uvicorn-access-log"),
    *("--enable-force-include-usage", "--enable-prompt-tokens-details", "--enable-log-outputs"),
)
TOGGLES = (  # also as --no-...
    *("--trust-remote-code", "--language-model-only", "--enforce-eager", "--async-scheduling"),
    *("--enable-prefix-caching", "--enable-chunked-prefill", "--enable-expert-parallel"),
    *("--enable-ep-weight-filter", "--enable-log-requests", "--skip-tokenizer-init"),
    *("--allow-credentials", "--disable-custom-all-reduce"),
)
CHOICES = {
    "--dtype": ("auto", "half", "float16", "bfloat16", "float", "float32"),
    "--kv-cache-dtype": (
        *("auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2", "fp8_ds_mla", "fp8_inc"),
    ),
    "--dcp-comm-backend": ("ag_rs", "a2a"),
    "--distributed-executor-backend": ("mp", "ray", "uni", "external_launcher"),
    "--mm-encoder-tp-mode": ("weights", "data"),
    "--moe-backend": (
        *("auto", "triton", "deep_gemm", "cutlass", "flashinfer_trtllm", "flashinfer_cutlass"),
        *("marlin", "aiter"),
    ),
    "--safetensors-load-strategy": ("lazy", "eager", "prefetch", "torchao"),
    "--scheduling-policy": ("fcfs", "priority"),
    "--tokenizer-mode": ("auto", "slow", "mistral", "custom", "hf"),
    "--uvicorn-log-level": ("debug", "info", "warning", "error", "critical", "trace"),
    "--chat-template-content-format": ("auto", "string", "openai"),
}
TOOL_PARSERS = (
    "kimi_k2",
    "hermes",
    "llama3_json",
    "mistral",
    "deepseek_v3",
    "qwen3_coder",
    "openai",
)
REASONING_PARSERS = ("kimi_k2", "deepseek_r1", "deepseek_v3", "qwen3", "openai_gptoss", "glm45")
UNITS = {"k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}


class Parser(argparse.ArgumentParser):
    """Takes `--max_model_len` for `--max-model-len`, and never guesses an abbreviation."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["allow_abbrev"] = False
        super().__init__(*args, **kwargs)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args([dashed(word) for word in given], namespace)


def dashed(word: str) -> str:
    if not word.startswith("--"):
        return word
    key, equals, value = word.partition("=")
    return "--" + key[2:].replace("_", "-") + equals + value


def whole(text: str) -> int:
    """An integer, as 32768, 32k (thousands) or 32K (1024s)."""
    match = re.fullmatch(r"(-?[\d.]+)([kmgKMG]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"Argument '{text}' cannot be parsed")
    return int(float(match[1]) * UNITS.get(match[2], 1))


def model_length(text: str) -> int:
    return -1 if text == "auto" else whole(text)


def structure(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"Value {text} cannot be converted to JSON.") from error


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = Parser(description="vLLM CLI", prog="vllm")
    top.add_argument("-v", "--version", action="store_true")
    verbs = top.add_subparsers(
        dest="subparser", metavar="{chat,complete,serve,launch,bench,collect-env,run-batch}"
    )
    serve = verbs.add_parser("serve", help="Launch a local OpenAI-compatible API server.")
    serve.add_argument("model_tag", nargs="?")
    serve.add_argument("--model")
    add_lists(serve)
    add_parallelism(serve)
    for name in INTEGERS:
        serve.add_argument(name, type=int)
    for name in FLOATS:
        serve.add_argument(name, type=float)
    for name in TEXTS:
        serve.add_argument(name)
    for name in JSONS:
        serve.add_argument(name, type=structure)
    for name in SWITCHES:
        serve.add_argument(name, action="store_true")
    for name in TOGGLES:
        serve.add_argument(name, action=argparse.BooleanOptionalAction)
    for name, choices in CHOICES.items():
        serve.add_argument(name, choices=choices)
    return top


def add_lists(serve: argparse.ArgumentParser) -> None:
    serve.add_argument("--api-key", nargs="+")
    serve.add_argument("--served-model-name", nargs="+")
    serve.add_argument("--middleware", action="append", default=[])
    serve.add_argument("--allowed-media-domains", nargs="+")
    serve.add_argument("--allowed-local-media-path")
    serve.add_argument("--cudagraph-capture-sizes", nargs="+", type=int)
    serve.add_argument("--tool-call-parser", choices=TOOL_PARSERS)
    serve.add_argument("--reasoning-parser", choices=REASONING_PARSERS)


def add_parallelism(serve: argparse.ArgumentParser) -> None:
    serve.add_argument("--tensor-parallel-size", "-tp", type=int, default=1)
    serve.add_argument("--pipeline-parallel-size", "-pp", type=int, default=1)
    serve.add_argument("--decode-context-parallel-size", "-dcp", type=int, default=1)
    serve.add_argument("--max-model-len", type=model_length)
    serve.add_argument("--kv-cache-memory-bytes", type=whole)
