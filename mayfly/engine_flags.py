"""The flags of `vllm serve` that a profile may hold, by engine version.

A flag that the engine does not know ends its start with a usage message, on a rented machine. The
planner's own flags are not a profile's to write: two opinions on one flag would be hidden.
"""

from collections.abc import Mapping

PLANNED = (
    "--tensor-parallel-size",
    "--pipeline-parallel-size",
    "--distributed-executor-backend",
    "--decode-context-parallel-size",
    "--max-model-len",
    "--gpu-memory-utilization",
    "--max-num-seqs",
    "--max-num-batched-tokens",
    "--kv-cache-dtype",
)

_TOOL_PARSERS = ("kimi_k2", "hermes", "llama3_json", "mistral", "deepseek_v3", "qwen3_coder")
_REASONING_PARSERS = ("kimi_k2", "deepseek_r1", "deepseek_v3", "qwen3", "glm45")

# Name -> the values it takes; () for a switch, None for any value.
_FLAGS_0_24: Mapping[str, tuple[str, ...] | None] = {
    "--language-model-only": (),
    "--trust-remote-code": (),
    "--enable-auto-tool-choice": (),
    "--enable-expert-parallel": (),
    "--enable-ep-weight-filter": (),
    "--enable-prefix-caching": (),
    "--no-enable-prefix-caching": (),
    "--async-scheduling": (),
    "--no-async-scheduling": (),
    "--enforce-eager": (),
    "--disable-log-stats": (),
    "--disable-custom-all-reduce": (),
    "--tool-call-parser": _TOOL_PARSERS,
    "--reasoning-parser": _REASONING_PARSERS,
    "--moe-backend": ("auto", "triton", "deep_gemm", "cutlass", "marlin"),
    "--dcp-comm-backend": ("ag_rs", "a2a"),
    "--mm-encoder-tp-mode": ("weights", "data"),
    "--attention-backend": None,
    "--max-cudagraph-capture-size": None,
    "--compilation-config": None,
    "--speculative-config": None,
    "--kv-offloading-size": None,
    "--generation-config": None,
    "--default-chat-template-kwargs": None,
    "--hf-overrides": None,
}
FLAGS: Mapping[str, Mapping[str, tuple[str, ...] | None]] = {"0.24.0": _FLAGS_0_24}


def problem(flag: str, engine: str) -> str:
    """What is wrong with one `--name` or `--name=value`; "" if nothing, or the version unknown."""
    name, equals, value = flag.partition("=")
    if name in PLANNED:
        return "The planner computes it: say what you want under wishes or machines."
    known = FLAGS.get(engine)
    if known is None:
        return ""
    if name not in known:
        return f"vllm serve {engine} has no such flag that a profile may use."
    values = known[name]
    if values == () and equals:
        return "It is a switch and takes no value."
    if values is None and not value:
        return "It needs a value, as --name=value."
    if values and value not in values:
        return f"Valid: {', '.join(f'{name}={v}' for v in values)}."
    return ""
