"""What a request becomes for the engine: prompt, reasoning, tool call."""

import json
import re
from dataclasses import dataclass
from typing import Any

from vllm.engine import WORDS, Request, tokenize
from vllm.protocol import ApiError, ChatRequest, Sampling

REASONING_TOKENS = 8
QUOTED = re.compile(r'["\u201c]([^"\u201c\u201d]{3,200})["\u201d]')
GARBAGE = "!" * 400


@dataclass(frozen=True)
class Features:
    """What the command line switched on."""

    served: tuple[str, ...]
    max_length: int
    tools: bool
    reasoning: bool
    sane_tokens: int | None = None  # a prompt longer than this is answered with garbage


def text_of(content: Any) -> str:
    """A message's content: text, or the text parts of a list."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return "" if content is None else str(content)


def render(messages: list[dict[str, Any]], tools: list[Any] | None) -> str:
    """The prompt, in Kimi's manner."""
    parts = []
    if tools:
        declared = json.dumps([tool.model_dump() for tool in tools], sort_keys=True)
        parts.append(f"<|im_system|>tool_declare<|im_middle|>{declared}<|im_end|>")
    for message in messages:
        role = message.get("role", "user")
        parts.append(f"<|im_{role}|>{role}<|im_middle|>{text_of(message.get('content'))}<|im_end|>")
    return "".join(parts) + "<|im_assistant|>assistant<|im_middle|>"


def check_model(body: Sampling, features: Features) -> None:
    if body.model and body.model not in features.served:
        message = f"The model `{body.model}` does not exist."
        raise ApiError(404, "NotFoundError", message, "model")


def make_request(
    body: Sampling, prompt: list[int], wanted: int | None, features: Features
) -> Request:
    """Checked against the context length. `wanted`: max_tokens, None for all that is left."""
    limit = features.max_length
    if wanted is not None and wanted < 1:
        raise ApiError(
            400, "BadRequestError", f"max_tokens must be at least 1, got {wanted}.", "max_tokens"
        )
    if wanted is not None and wanted > limit:
        raise ApiError(
            400,
            "BadRequestError",
            f"max_tokens={wanted} cannot be greater than max_model_len=max_total_tokens={limit}. "
            f"Please request fewer output tokens. (parameter=max_tokens, value={wanted})",
            "max_tokens",
        )
    room = limit - len(prompt)
    if room < (wanted or 1):
        raise ApiError(
            400,
            "BadRequestError",
            f"This model's maximum context length is {limit} tokens. However, you requested "
            f"{wanted or 1} output tokens and your prompt contains {len(prompt)} input tokens. "
            "Please reduce the length of the input prompt or the number of requested output "
            f"tokens. (parameter=input_tokens, value={len(prompt)})",
            "input_tokens",
        )
    seed = body.seed if body.temperature and body.seed is not None else 0
    request = Request(prompt, wanted or room, body.ignore_eos, seed)
    if features.sane_tokens is not None and len(prompt) > features.sane_tokens:
        request.text = GARBAGE
    return request


def prepare(body: ChatRequest, features: Features) -> tuple[Request, dict[str, Any] | None]:
    """The request, and the tool call that it will be instead of words."""
    prompt = tokenize(render(body.messages, body.tools))
    wanted = body.max_completion_tokens or body.max_tokens
    request = make_request(body, prompt, wanted, features)
    call = choose_tool(body, features)
    if request.text == GARBAGE:
        return request, None
    if call is not None:
        request.text = call["function"]["arguments"]
    elif sentences := recall(body.messages):
        thoughts = WORDS[:REASONING_TOKENS] if thinks(body, features) else []
        request.text = " ".join([*thoughts, *sentences])
    return request, call


def recall(messages: list[dict[str, Any]]) -> list[str]:
    """What a model does that is asked about words in quotation marks: it looks them up.

    The sentences of the conversation that hold them outside quotation marks, the first for each.
    """
    texts = [text_of(message.get("content")) for message in messages]
    wanted = QUOTED.findall(texts[-1]) if texts else []
    spoken = QUOTED.sub("", "\n".join(texts)) if wanted else ""
    found = []
    for words in wanted:
        at = spoken.find(words)
        if at >= 0:
            begin = max(spoken.rfind(mark, 0, at) for mark in (".", "!", "?", "\n")) + 1
            end = min(spoken.find(mark, at) % len(spoken) for mark in ".!?\n")
            found.append(spoken[begin : end + 1].strip())
    return found


def choose_tool(body: ChatRequest, features: Features) -> dict[str, Any] | None:
    """The call that a model would make: on the first turn that offers tools."""
    choice = body.tool_choice or ("auto" if body.tools else "none")
    if not body.tools or choice == "none":
        return None
    if choice == "auto" and not features.tools:
        raise ApiError(
            400,
            "BadRequestError",
            '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be '
            "set",
        )
    last = body.messages[-1] if body.messages else {}
    if choice == "auto" and last.get("role") != "user":
        return None
    function = body.tools[0].function
    if isinstance(choice, dict):
        name = choice.get("function", {}).get("name")
        named = [tool.function for tool in body.tools if tool.function.name == name]
        if not named:
            raise ApiError(400, "BadRequestError", f"Tool {name} has not been passed in `tools`.")
        function = named[0]
    turn = sum(len(message.get("tool_calls") or []) for message in body.messages)
    arguments = fill(function.parameters or {}, text_of(last.get("content")))
    return {
        "id": f"functions.{function.name}:{turn}",
        "type": "function",
        "function": {"name": function.name, "arguments": json.dumps(arguments)},
    }


def fill(schema: dict[str, Any], question: str) -> dict[str, Any]:
    """Values for an object's required properties, taken from the question where one fits."""
    properties = schema.get("properties", {})
    names = schema.get("required") or list(properties)
    return {name: value(properties.get(name, {}), question) for name in names}


def value(schema: dict[str, Any], question: str) -> Any:
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "string")
    if kind == "object":
        return fill(schema, question)
    if kind == "array":
        return [value(schema.get("items", {}), question)]
    simple = {"integer": 1, "number": 1.0, "boolean": True, "null": None}
    if kind in simple:
        return simple[kind]
    names = re.findall(r"(?<=\s)[A-Z][a-z]+", question)
    words = question.split()
    return names[-1] if names else (words[-1].strip("?.!") if words else "")


def thinks(body: ChatRequest, features: Features) -> bool:
    """Kimi K2.5 thinks unless it is told not to."""
    told = (body.chat_template_kwargs or {}).get("thinking", True)
    return features.reasoning and bool(told)
