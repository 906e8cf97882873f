"""Does an endpoint do what clients need: chat, streaming, tools, thinking apart, prompts up to the
limit and not beyond, usage, no way in without a key?

    OPENAI_API_KEY=... python bench/test_inference.py --url http://127.0.0.1:8000/v1

A command, not a pytest module: nothing in it is named test_.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from bench.client import Endpoint, EndpointError, endpoint_arguments, refusal
from bench.load import Aim, words
from bench.stream import stream_chat

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city now.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
# What infers or tokenizes in vLLM, whichever of its APIs a model has. Its own --api-key leaves
# those open that are not below /v1 (0.24.0): full inference without a key.
CHAT = "chat/completions"
GUARDED = (
    *(CHAT, "completions", "responses", "messages", "embeddings", "score", "rerank"),
    *("chat/completions/render", "audio/transcriptions", "audio/translations"),
    *("/invocations", "/tokenize", "/detokenize", "/pooling", "/classify", "/score", "/rerank"),
    *("/v2/rerank", "/v2/embed", "/inference/v1/generate", "/generative_scoring"),
)
REFUSED, NOT_THERE = 401, (404, 405)
THINKING = ("<think>", "</think>", "\u25c1think\u25b7", "\u25c1/think\u25b7")
NEAR = 0.9
"""How much of the context a long prompt is to fill."""
FEW_WORDS, MANY_WORDS = 32, 544


@dataclass(frozen=True)
class Target:
    """thinks: the server has a reasoning parser, so that thinking must come in a field of its own.
    limit: tokens of context."""

    endpoint: Endpoint
    model: str
    thinks: bool
    limit: int

    def chat(self, text: str, max_tokens: int = 64, **more: Any) -> dict[str, Any]:
        """The body of one chat."""
        messages = [{"role": "user", "content": text}]
        return {
            "model": self.model,
            "messages": messages,
            "max_tokens": max_tokens,
            "temperature": 0,
            **more,
        }


def need(condition: object, message: str) -> None:
    """Raise EndpointError with the message unless the condition holds."""
    if not condition:
        raise EndpointError(message)


def check_models(target: Target) -> str:
    models = target.endpoint.json("GET", "models")["data"]
    ids = [m["id"] for m in models]
    need(target.model in ids, f"{target.model!r} is not served; served: {', '.join(ids)}")
    return f"{target.model}, up to {target.limit:,} tokens"


def check_chat(target: Target) -> str:
    answer = target.endpoint.json("POST", CHAT, target.chat("Say hello."))
    message = answer["choices"][0]["message"]
    text = message.get("content") or message.get("reasoning") or ""
    need(text, f"an empty answer: {json.dumps(answer)[:200]}")
    return f"{text.strip()[:40]!r}"


def check_usage(target: Target) -> str:
    body = target.chat("Count to five.", max_tokens=8, ignore_eos=True)
    usage = target.endpoint.json("POST", CHAT, body)["usage"]
    need(usage["completion_tokens"] == 8, f"8 tokens were asked for: {usage}")
    total = usage["prompt_tokens"] + usage["completion_tokens"]
    need(usage["prompt_tokens"] > 0 and usage["total_tokens"] == total, f"usage: {usage}")
    streamed = stream_chat(target.endpoint, body).usage or {}
    same = all(streamed.get(key) == usage[key] for key in ("prompt_tokens", "completion_tokens"))
    need(same, f"{usage} at once, {streamed} streamed")
    return f"{usage['prompt_tokens']} + {usage['completion_tokens']} tokens"


def check_streaming(target: Target) -> str:
    stream = stream_chat(target.endpoint, target.chat("Count to twenty.", ignore_eos=True))
    need(len(stream.arrivals_s) > 1, f"{len(stream.arrivals_s)} chunks: that is no stream")
    need(stream.usage, "no usage at the end of the stream")
    need(stream.finish_reason, "no finish_reason")
    return f"{len(stream.arrivals_s)} chunks, first after {stream.arrivals_s[0]:.2f} s"


def check_tool_call(target: Target) -> str:
    body = target.chat(
        "What is the weather in Paris? Use the tool.",
        max_tokens=512,
        tools=[TOOL],
        tool_choice="auto",
    )
    choice = target.endpoint.json("POST", CHAT, body)["choices"][0]
    calls = choice["message"].get("tool_calls") or []
    need(calls, f"no tool call: {json.dumps(choice)[:200]}")
    function = calls[0]["function"]
    need(function["name"] == "get_weather", f"another tool: {function}")
    need("city" in json.loads(function["arguments"]), f"arguments without a city: {function}")
    need(choice["finish_reason"] == "tool_calls", f"finish_reason {choice['finish_reason']!r}")
    return f"get_weather({function['arguments']})"


def check_reasoning(target: Target) -> str:
    """Thinking in the answer's own text breaks every client that parses it."""
    body = target.chat("Which is larger, 9.9 or 9.11?", max_tokens=128)
    message = target.endpoint.json("POST", CHAT, body)["choices"][0]["message"]
    stream = stream_chat(target.endpoint, body)
    for text in (message.get("content") or "", stream.text):
        leaks = [mark for mark in THINKING if mark in text]
        need(not leaks, f"thinking in the answer itself: {text[:80]!r}")
    whole = message.get("reasoning") or message.get("reasoning_content") or ""
    if not target.thinks:
        return f"{len(whole)} characters apart"
    need(whole, f"no reasoning: {json.dumps(message)[:200]}")
    need(stream.reasoning, "no reasoning in the stream")
    return f"{len(whole)} characters apart, {len(stream.reasoning)} streamed"


def check_long_prompt(target: Target) -> str:
    """Memory, positions and proxies break near the limit, not at 50 tokens."""
    need(target.limit, "the server does not say its max_model_len")
    wanted = round(NEAR * target.limit)
    stream = stream_chat(target.endpoint, long_chat(target, wanted))
    read = int((stream.usage or {}).get("prompt_tokens") or 0)
    need(stream.arrivals_s, "no answer")
    need(NEAR * wanted <= read <= target.limit, f"{read} tokens read; {wanted} were aimed at")
    return f"{read:,} of {target.limit:,} tokens, first answer after {stream.arrivals_s[0]:.2f} s"


def check_too_long(target: Target) -> str:
    """A prompt that cannot fit is refused in words, not cut or waited for."""
    body = long_chat(target, round(target.limit * 1.1))
    response = target.endpoint.call("POST", CHAT, json=body)
    need(response.status_code == 400, f"400 was expected: {refusal(response)}")
    return refusal(response)[:60]


def long_chat(target: Target, tokens: int) -> dict[str, Any]:
    """A chat whose prompt has about so many tokens, by the server's own count."""
    rng, counts = random.Random(0), []
    for number in (FEW_WORDS, MANY_WORDS):
        body = target.chat(words(rng, number), max_tokens=1)
        usage = target.endpoint.json("POST", CHAT, body)["usage"]
        counts.append((number, int(usage["prompt_tokens"])))
    return target.chat(words(rng, Aim.learnt(*counts).words(tokens)), max_tokens=8)


def check_no_key(target: Target) -> str:
    return refused(target, "")


def check_wrong_key(target: Target) -> str:
    return refused(target, "sk-not-the-key")


def refused(target: Target, key: str) -> str:
    """Every guarded path that is there answers 401 to this key; chat is there."""
    stranger, shut = replace(target.endpoint, key=key), 0
    for path in GUARDED:
        response = stranger.call("POST", path, json=target.chat("Hello?", max_tokens=1))
        absent = response.status_code in NOT_THERE and path != CHAT
        need(absent or response.status_code == REFUSED, f"{path} is open: {refusal(response)}")
        shut += not absent
    response = stranger.call("GET", "models")
    need(response.status_code == REFUSED, f"models is open: {refusal(response)}")
    return f"401 on {shut + 1} paths"


CHECKS: tuple[Callable[[Target], str], ...] = (
    check_models,
    check_chat,
    check_usage,
    check_streaming,
    check_tool_call,
    check_reasoning,
    check_long_prompt,
    check_too_long,
    check_no_key,
    check_wrong_key,
)


def run_check(check: Callable[[Target], str], target: Target) -> dict[str, Any]:
    """One check's result. A garbled answer (missing field, wrong type) fails it, no crash."""
    start = time.perf_counter()
    try:
        ok, detail = True, check(target)
    except EndpointError as error:
        ok, detail = False, str(error)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        ok, detail = False, f"an answer of another shape: {error!r}"
    name = check.__name__.removeprefix("check_")
    return {"name": name, "ok": ok, "detail": detail, "s": round(time.perf_counter() - start, 3)}


def found(endpoint: Endpoint, model: str, thinks: bool) -> Target:
    """The model that is meant, and its context. Raises EndpointError."""
    model = model or endpoint.first_model()
    served = {m.get("id"): m for m in endpoint.json("GET", "models").get("data") or []}
    limit = served.get(model, {}).get("max_model_len")
    return Target(endpoint, model, thinks, limit if isinstance(limit, int) else 0)


def main(arguments: list[str] | None = None) -> int:
    """0 when every check holds, 1 otherwise."""
    parser = argparse.ArgumentParser(description="Test an OpenAI-compatible endpoint.")
    endpoint_arguments(parser)
    parser.add_argument("--reasoning", action="store_true", help="thinking must come, and apart")
    options = parser.parse_args(arguments)
    endpoint = Endpoint(options.url, options.key, options.timeout_s)
    try:
        target = found(endpoint, options.model, options.reasoning)
    except EndpointError as error:
        print(f"No test of {options.url}: {error}", file=sys.stderr)
        print("Nothing was tested. Is the tunnel up? Run: mayfly connect", file=sys.stderr)
        return 1
    results = []
    for check in CHECKS:
        results.append(run_check(check, target))
        if not options.json:
            r = results[-1]
            print(f"{'ok  ' if r['ok'] else 'FAIL'} {r['name']:<10} {r['s']:6.2f} s  {r['detail']}")
    ok = all(r["ok"] for r in results)
    if options.json:
        print(json.dumps({"ok": ok, "model": target.model, "checks": results}, indent=2))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
