"""Does an endpoint do what clients need: chat, streaming, tools, usage, no way in without a key?

    OPENAI_API_KEY=... python bench/test_inference.py --url http://127.0.0.1:8000/v1

A command, not a pytest module: nothing in it is named test_.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from bench.client import Endpoint, EndpointError, endpoint_arguments, refusal
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
# Paths that vLLM's own --api-key leaves open (0.24.0): full inference without a key.
GUARDED = ("chat/completions", "/invocations", "/tokenize")


@dataclass(frozen=True)
class Target:
    endpoint: Endpoint
    model: str

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
    return f"{target.model}, up to {models[ids.index(target.model)].get('max_model_len')} tokens"


def check_chat(target: Target) -> str:
    answer = target.endpoint.json("POST", "chat/completions", target.chat("Say hello."))
    message = answer["choices"][0]["message"]
    text = message.get("content") or message.get("reasoning") or ""
    need(text, f"an empty answer: {json.dumps(answer)[:200]}")
    return f"{text.strip()[:40]!r}"


def check_usage(target: Target) -> str:
    body = target.chat("Count to five.", max_tokens=8, ignore_eos=True)
    usage = target.endpoint.json("POST", "chat/completions", body)["usage"]
    need(usage["completion_tokens"] == 8, f"8 tokens were asked for: {usage}")
    total = usage["prompt_tokens"] + usage["completion_tokens"]
    need(usage["prompt_tokens"] > 0 and usage["total_tokens"] == total, f"usage: {usage}")
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
    choice = target.endpoint.json("POST", "chat/completions", body)["choices"][0]
    calls = choice["message"].get("tool_calls") or []
    need(calls, f"no tool call: {json.dumps(choice)[:200]}")
    function = calls[0]["function"]
    need(function["name"] == "get_weather", f"another tool: {function}")
    need("city" in json.loads(function["arguments"]), f"arguments without a city: {function}")
    need(choice["finish_reason"] == "tool_calls", f"finish_reason {choice['finish_reason']!r}")
    return f"get_weather({function['arguments']})"


def check_no_key(target: Target) -> str:
    return refused(target, "")


def check_wrong_key(target: Target) -> str:
    return refused(target, "sk-not-the-key")


def refused(target: Target, key: str) -> str:
    """Every guarded path answers 401 to this key."""
    stranger = replace(target.endpoint, key=key)
    for path in GUARDED:
        response = stranger.call("POST", path, json=target.chat("Hello?", max_tokens=1))
        need(response.status_code == 401, f"{path} is open: {refusal(response)}")
    return "401"


CHECKS: tuple[Callable[[Target], str], ...] = (
    check_models,
    check_chat,
    check_usage,
    check_streaming,
    check_tool_call,
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


def main(arguments: list[str] | None = None) -> int:
    """0 when every check holds, 1 otherwise."""
    parser = argparse.ArgumentParser(description="Test an OpenAI-compatible endpoint.")
    endpoint_arguments(parser)
    options = parser.parse_args(arguments)
    endpoint = Endpoint(options.url, options.key, options.timeout_s)
    try:
        target = Target(endpoint, options.model or endpoint.first_model())
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
