"""What docs/results/tuning.md says around its tables; every figure in a sentence is looked up."""

from typing import Any

INTRODUCTION = """\
# Tuning found by measurement

Made by `python bench/tuning.py` from `docs/results/raw/*-h100-*/results.jsonl` and `*-h200-*`; a
test holds this page to it.

One of the 8 tensor-parallel ranks of Kimi K2.5 alone on one GPU: vLLM 0.24.0, made-up weights, text
only, **no all-reduce between GPUs and no vision tower**. So a rate here is an upper bound of a
whole machine's, and never stands beside one. Which experts made-up weights choose is not what real
ones do. All of it is mode fast's layout, without context parallelism. The engine's own logs lie
beside the raw results.

The reference is the engine's default but for what the memory asks: utilisation 0.97, prefill steps
of 2,048, 64 requests at most, all 61 layers, a bf16 cache; asynchronous scheduling and prefix
caching on."""

TARGETS = """\
The middle of all runs with the reference's settings. A run before 2026-11-24 is one pair of timings
(two were 12 % apart); since then it is the middle of five pairs."""

WHOLE_DEPTH = """\
Calculated, not run: the time that longer context adds in so few layers, 61 layers' worth of it, on
top of the reference's step at 512 tokens. tok/s of one request."""

PROBES = """\
What `mayfly probe` finds: one rank of each profile with the settings of its plan for mode fast;
planned / measured (difference). Planned is by the planner as it is now, which these runs corrected;
what it said of the KV cache before them stands beside it: it took nvidia-smi's word for the memory
and the activations of Kimi K2.5 for every model's. The first run of each found no kernel caches;
where a figure was not run, the time was over."""

NOT_MEASURED = """
## Not measured

- MoE kernels: for INT4 experts on Hopper vLLM 0.24.0 offers Marlin alone (FlashInfer's is for
  Blackwell), and every log says `Using 'MARLIN' WNA16 MoE backend`: there was nothing to choose.
- Speculative decoding: how many tokens of a draft are accepted depends on real weights.
- Context parallelism over 8 GPUs, the all-reduce, newer engine versions: they need GPUs or packages
  that were not at hand. Context parallelism 2 on two H200, 12 layers of these shapes, all-reduce
  fusion off, kept 2.00 times the tokens in each GiB of cache and cost each request 13 % of its
  tok/s alone, 23 % among 8 (2026-11-23; its logs were not kept)."""


def follows(rows: list[dict[str, Any]]) -> list[str]:
    """What the profiles' flags take from the tables."""
    by = {row["case"]["name"]: row for row in rows}
    small, middle, large = (
        by[name]["prefill 8192"]["tok_s"] for name in ("base", "batched-4096", "batched-8192")
    )
    few, own = by["graphs-few"], by["async"]
    prefill = by["probe of kimi-k2.5"]["prefill 8192"]
    near, far = (by["long-decode"][f"decode at {n}"]["per_request_tok_s"] for n in (8192, 57344))
    return [
        *("", "## What the flags take from it", ""),
        "- **Prefill steps** (`--max-num-batched-tokens`): with steps of 2,048 a prompt of 8,192 "
        f"tokens is read at {small:,.0f} tokens/s, with 4,096 at {100 * (middle / small - 1):.0f} "
        f"% more, with 8,192 at {100 * (large / small - 1):.0f} % more; each 1,024 cost 0.27 GiB "
        "of cache a GPU. So the planner takes 8,192 where two requests of full length fit beside "
        "them, else 2,048.",
        "- **Utilisation**: one rank alone started with 0.97 each time. The planner stops at 0.96: "
        "eight ranks share their GPUs with NCCL, which one rank does not show.",
        f"- **CUDA graphs**: 7 sizes take {few['graphs_gib']:g} GiB and {few['graphs_s']:g} s, the "
        f"engine's own {own['graphs_gib']:g} GiB and {own['graphs_s']:g} s; decode differs by no "
        "more than two equal runs do. The engine's own stay: the difference decides no context.",
        "- **Asynchronous scheduling** is the engine's default, every log says that it is on: no "
        "flag is needed.",
        "- **Prefix caching** is the engine's default: a prompt of 8,192 tokens that comes again "
        f"is answered after {prefill['again_s']:g} s, not {prefill['seconds']:g}. Runs with it "
        "read a new prompt more slowly than runs without it; why was not looked into.",
        f"- **Context**: one request gets {near:g} tok/s at 8,192 tokens, {far:g} at 57,344.",
        f"- **fp8 cache**: {by['fp8-kv']['kv_tokens']:,.0f} tokens in place of "
        f"{by['base']['kv_tokens']:,.0f}, twice as many in each GiB. Not taken: long talks came "
        "out garbled with it on H100 elsewhere, and context parallelism refuses it before vLLM "
        "0.32.",
    ]
