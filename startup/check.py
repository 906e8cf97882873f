"""Ask the endpoint what a user would: a chat, a tool call, a second turn, a needle in a long text.

`python3 -m startup.check`. Exit 0: it does what it is for; then guest attribute `endpoint` says how
far, and /run/mayfly/answers holds it as a sentence. Exit 1: the last line says what it got wrong.
/run/mayfly/fallback holds why the mode that was asked for was given up, if it was.
"""

import json
import os
import random
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from startup import cloud, haystack, paths

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city, now",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
TIMEOUT_S = 180  # 70K tokens are 5 s of eight H100 and a minute of eight A100
ANSWER_TOKENS = 1024  # a model that thinks first needs some for that
TURN_SENTENCES = 150
SAMPLE_SENTENCES = 300
NEEDLE_TOKENS = 70_000  # past 64K, where context parallelism has gone wrong elsewhere
LONG_TOKENS = 65_536
SLACK_TOKENS = 1024  # the sample's sentences are not exactly as long as all
LEAST_NEEDLE_TOKENS = 2048
METRIC = re.compile(r"^(vllm:[a-z_]+)\{([^}]*)\} (\S+)$", re.MULTILINE)


class CheckError(Exception):
    """What the endpoint did, in words for the user."""


def call(path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The JSON object that the endpoint answers. CheckError: anything else."""
    key = paths.read(paths.root() / "run/mayfly-key/env").partition("=")[2]
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    url = f"http://127.0.0.1:{os.environ['MAYFLY_PORT']}{path}"
    data = None if body is None else json.dumps(body).encode()
    method = "GET" if data is None else "POST"
    try:
        answer = cloud.fetch(url, method=method, data=data, headers=headers, timeout_s=TIMEOUT_S)
        said = json.loads(answer)
    except cloud.CloudError as error:
        raise CheckError(str(error)) from error
    except ValueError as error:
        raise CheckError(f"{path} answered no JSON: {error}") from error
    if not isinstance(said, dict):
        raise CheckError(f"{path} answered no JSON object")
    return said


def ask(messages: list[dict[str, str]], **more: Any) -> dict[str, Any]:
    """One chat completion. CheckError: none came, or with usage that cannot be."""
    model = os.environ["MAYFLY_SERVED_MODEL"]
    body = {"model": model, "messages": messages, "max_tokens": ANSWER_TOKENS, "temperature": 0}
    said = call("/v1/chat/completions", {**body, **more})
    try:
        usage, message = said["usage"], said["choices"][0]["message"]
        sane = usage["prompt_tokens"] > 0 and 0 < usage["completion_tokens"] <= ANSWER_TOKENS
        message.get("content")
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise CheckError(f"no chat completion came back: {error!r}") from error
    if not sane:
        raise CheckError(f"it counts tokens wrongly: {usage}")
    return said


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def text_of(said: dict[str, Any]) -> str:
    """What it wrote, thoughts included. CheckError: nothing."""
    message = said["choices"][0]["message"]
    text = (message.get("reasoning") or "") + (message.get("content") or "")
    if not text.strip():
        raise CheckError("it answered with nothing")
    return text


@dataclass(frozen=True)
class Endpoint:
    """What /v1/models says, and the mode: "safe" after a fallback."""

    mode: str
    max_model_len: int
    served_model: str

    def claim(self) -> str:
        return json.dumps(vars(self))


def endpoint(mode: str) -> Endpoint:
    try:
        card = call("/v1/models")["data"][0]
        return Endpoint(mode, int(card["max_model_len"]), str(card["id"]))
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise CheckError(f"/v1/models names no model: {error!r}") from error


def chat() -> str:
    said = ask([user("Say hello in one short sentence.")])
    text_of(said)
    return f"{said['usage']['completion_tokens']} tokens"


def tool_call() -> str:
    """A model may talk instead; what must not be is a call that cannot be parsed."""
    question = user("Use the tool: what is the weather in Paris now?")
    choice = ask([question], tools=[TOOL], tool_choice="auto")["choices"][0]
    calls = choice["message"].get("tool_calls") or []
    if not calls or choice.get("finish_reason") == "length":
        return "none made"
    function = calls[0]["function"]
    try:
        arguments = json.loads(function["arguments"])
    except ValueError as error:
        raise CheckError(f"its arguments are no JSON: {function!r}") from error
    if function["name"] != "get_weather" or "city" not in arguments:
        raise CheckError(f"it makes no sense: {function!r}")
    return str(function["name"])


def second_turn() -> str:
    """The first turn's tokens come from the prefix cache, and what they say is still known."""
    rng = random.Random()
    needle = haystack.needle("east", rng)
    text = haystack.plant(haystack.sentences(TURN_SENTENCES, rng), {0.5: needle})
    turns = [user(f"{text}\n\nAnswer with one word: ready.")]
    first = ask(turns)
    before, caching = prefix_hits()
    content = first["choices"][0]["message"].get("content") or "Ready."
    turns += [{"role": "assistant", "content": content}, user(haystack.question([needle]))]
    answer = text_of(ask(turns))
    hits = prefix_hits()[0] - before
    if needle.code not in answer:
        raise CheckError("it does not know what the first one said")
    if caching and hits < first["usage"]["prompt_tokens"] / 2:
        raise CheckError(f"only {hits:.0f} of the first one's tokens came from the prefix cache")
    return f"{hits:.0f} tokens from the prefix cache"


def prefix_hits() -> tuple[float, bool]:
    """(vLLM's counter, whether it must move: prefix caching is on, in one engine)."""
    url = f"http://127.0.0.1:{os.environ['MAYFLY_PORT']}/metrics"
    try:
        text = cloud.fetch(url, timeout_s=TIMEOUT_S).decode("utf-8", "replace")
    except cloud.CloudError as error:
        raise CheckError(str(error)) from error
    found = METRIC.findall(text)
    engines = [labels for name, labels, _ in found if name == "vllm:cache_config_info"]
    on = len(engines) == 1 and 'enable_prefix_caching="True"' in engines[0]
    hits = [float(value) for name, _, value in found if name == "vllm:prefix_cache_hits_total"]
    return sum(hits), on


def needles(room: int) -> str:
    """Two sentences, one near the start and one near the end of `room` tokens, are found."""
    rng = random.Random()
    sample = " ".join(haystack.sentences(SAMPLE_SENTENCES, rng))
    counted = call("/tokenize", {"model": os.environ["MAYFLY_SERVED_MODEL"], "prompt": sample})
    try:
        each = int(counted["count"]) / SAMPLE_SENTENCES
        hay = haystack.sentences(int(room / each), rng)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckError(f"it cannot count tokens: {error!r}") from error
    planted = {0.03: haystack.needle("north", rng), 0.96: haystack.needle("south", rng)}
    text = haystack.plant(hay, planted)
    said = ask([user(f"{text}\n\n{haystack.question(list(planted.values()))}")])
    answer, size = text_of(said), said["usage"]["prompt_tokens"]
    at = {f"{size * place / 1000:.0f}K": one.code in answer for place, one in planted.items()}
    lost = [place for place, found in at.items() if not found]
    if lost:
        raise CheckError(f"not found at {' and '.join(lost)} of {size / 1000:.0f}K tokens")
    return f"found at {' and '.join(at)} of {size / 1000:.0f}K tokens"


def rounds(here: Endpoint, flags: list[str]) -> list[dict[str, Callable[[], str]]]:
    """What to ask, by the name that a failure is told under; a round's questions all at once.

    The needle comes alone: it may need all the cache there is, the second turn's prefix too.
    """
    first: dict[str, Callable[[], str]] = {"chat": chat, "second turn": second_turn}
    if "--enable-auto-tool-choice" in flags:
        first["tool call"] = tool_call
    room = min(NEEDLE_TOKENS, here.max_model_len - ANSWER_TOKENS - SLACK_TOKENS)
    wanted = here.mode != "fast" or here.max_model_len > LONG_TOKENS
    if wanted and room >= LEAST_NEEDLE_TOKENS:
        return [first, {"needle": lambda: needles(room)}]
    return [first]


def run(asked: dict[str, Callable[[], str]]) -> None:
    """One round. CheckError: every reason."""
    failed = []
    with ThreadPoolExecutor(len(asked)) as pool:
        running = {name: pool.submit(check) for name, check in asked.items()}
    for name, check in running.items():
        try:
            print(f"{name}: {check.result()}")
        except CheckError as failure:
            failed.append(f"{name}: {failure}")
    if failed:
        raise CheckError("; ".join(failed))


def main() -> int:
    given_up = paths.read(paths.run_dir() / "fallback")
    asked_for = os.environ["MAYFLY_MODE"]
    flags = json.loads(os.environ["MAYFLY_SAFE_FLAGS" if given_up else "MAYFLY_SERVE_FLAGS"])
    try:
        here = endpoint("safe" if given_up else asked_for)
        for asked in rounds(here, flags):
            run(asked)
    except CheckError as failure:
        print(failure)
        return 1
    tokens = f"{here.max_model_len:,} tokens"
    if given_up:
        what = "long context" if asked_for == "long" else f"mode {asked_for}"
        told = f"{what} failed its check ({given_up}): serving {tokens} instead"
    else:
        port = os.environ["MAYFLY_PORT"]
        told = f"{here.served_model} answers on 127.0.0.1:{port}, up to {tokens} (mode {here.mode})"
    cloud.publish("endpoint", here.claim())
    paths.write(paths.run_dir() / "answers", told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
