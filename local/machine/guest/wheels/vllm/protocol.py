"""Request bodies, checked by pydantic as the real server does; unknown fields pass."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

_FILE = "site-packages/vllm/entrypoints/serve/utils/api_utils.py"


class Body(BaseModel):
    model_config = ConfigDict(extra="allow")


class StreamOptions(Body):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class Sampling(Body):
    """What chat and text completions have in common."""

    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = 1
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    seed: int | None = None
    ignore_eos: bool = False
    stop: str | list[str] | None = None


class Function(Body):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(Body):
    type: Literal["function"] = "function"
    function: Function


class ChatRequest(Sampling):
    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class CompletionRequest(Sampling):
    prompt: str | list[int] | list[str] | list[list[int]] | None = None


class TokenizeRequest(Body):
    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None


class DetokenizeRequest(Body):
    model: str | None = None
    tokens: list[int]


class ApiError(Exception):
    """An error body in the server's shape."""

    def __init__(self, status: int, kind: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": status}}


def parse(kind: type[Body], data: Any, route: str, function: str) -> Any:
    """The body as `kind`. ApiError 400 in the words of the real server."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        problems = [
            {
                "type": item["type"],
                "loc": ("body", *item["loc"]),
                "msg": item["msg"],
                "input": item["input"],
            }
            for item in error.errors()
        ]
        count = f"{len(problems)} validation error{'s' if len(problems) > 1 else ''}"
        shown = "\n".join(f"  {problem}" for problem in problems)
        where = f'  File "{_FILE}", line 40, in {function}\n    POST {route} {problems}'
        param = ".".join(str(part) for part in problems[0]["loc"])
        message = f"{count}:\n{shown}\n\n{where}"
        raise ApiError(400, "Bad Request", message, param) from error
