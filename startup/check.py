"""Ask the endpoint what a user would: a completion and, where it offers tools, a tool call."""

import json
import os
import sys
from typing import Any

from startup import cloud, paths

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
TIMEOUT_S = 120
MAX_TOKENS = 1024  # a model that thinks first needs some for that


class CheckError(Exception):
    """What the endpoint did, in words for the user."""


def ask(question: str, **more: Any) -> dict[str, Any]:
    """One chat completion. CheckError: no answer, no JSON object, or usage that cannot be."""
    key = paths.read(paths.root() / "run/mayfly-key/env").partition("=")[2]
    body = {
        "model": os.environ["MAYFLY_SERVED_MODEL"],
        "messages": [{"role": "user", "content": question}],
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
        **more,
    }
    url = f"http://127.0.0.1:{os.environ['MAYFLY_PORT']}/v1/chat/completions"
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    data = json.dumps(body).encode()
    try:
        answer = cloud.fetch(url, method="POST", data=data, headers=headers, timeout_s=TIMEOUT_S)
        said: dict[str, Any] = json.loads(answer)
        usage = said["usage"]
        sane = usage["prompt_tokens"] > 0 and 0 < usage["completion_tokens"] <= MAX_TOKENS
    except cloud.CloudError as error:
        raise CheckError(f"{question!r}: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckError(f"{question!r}: no chat completion came back: {error!r}") from error
    if not sane:
        raise CheckError(f"{question!r}: it counts tokens wrongly: {usage}")
    return said


def text_of(said: dict[str, Any]) -> str:
    """What it wrote, thoughts included. CheckError: nothing."""
    message = said["choices"][0]["message"]
    text = (message.get("reasoning") or "") + (message.get("content") or "")
    if not text.strip():
        raise CheckError("it answered with nothing")
    return text


def tool_call_of(said: dict[str, Any]) -> str | None:
    """The called function's name; None when the model talked instead, or too long."""
    choice = said["choices"][0]
    calls = choice["message"].get("tool_calls") or []
    if not calls or choice.get("finish_reason") == "length":
        return None
    function = calls[0]["function"]
    try:
        arguments = json.loads(function["arguments"])
    except ValueError as error:
        raise CheckError(f"a tool call's arguments are no JSON: {function!r}") from error
    if function["name"] != "get_weather" or "city" not in arguments:
        raise CheckError(f"a tool call makes no sense: {function!r}")
    return str(function["name"])


def main() -> int:
    try:
        said = ask("Say hello in one short sentence.")
        text_of(said)
        print(f"chat: {said['usage']['completion_tokens']} tokens")
        if "--enable-auto-tool-choice" in json.loads(os.environ["MAYFLY_SERVE_FLAGS"]):
            question = "Use the tool: what is the weather in Paris now?"
            called = tool_call_of(ask(question, tools=[TOOL], tool_choice="auto"))
            # A model may talk instead; what must not be is a call that cannot be parsed.
            print(f"tool call: {called or 'none made'}")
    except CheckError as failure:
        print(failure)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
