"""The routes, and the answers in the real server's shapes."""

import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as Http
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from vllm import __version__, protocol
from vllm.chat import REASONING_TOKENS, Features, check_model, make_request, prepare, thinks
from vllm.engine import Engine, Request, detokenize, tokenize
from vllm.protocol import ApiError

FINGERPRINT = f"vllm-{__version__}-f4919632"
METRICS_TYPE = "text/plain; version=1.0.0; charset=utf-8"
SSE_TYPE = "text/event-stream; charset=utf-8"


class Api:
    """The endpoint functions over one engine."""

    def __init__(self, engine: Engine, features: Features, root: str) -> None:
        self.engine, self.features, self.root = engine, features, root
        self.created = int(time.time())

    def app(self, *, docs: bool) -> Starlette:
        both = ["GET", "POST"]
        routes = [
            Route("/health", self.health),
            Route("/ping", self.health, methods=both),
            Route("/version", self.version),
            Route("/load", self.load),
            Route("/metrics", self.metrics),
            Route("/v1/models", self.models),
            Route("/tokenize", self.tokenize, methods=["POST"]),
            Route("/detokenize", self.detokenize, methods=["POST"]),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.completions, methods=["POST"]),
            Route("/invocations", self.invocations, methods=["POST"]),
            Route("/scale_elastic_ep", self.refuse, methods=["POST"]),
            Route("/is_scaling_elastic_ep", self.not_scaling, methods=["POST"]),
        ]
        if docs:
            routes += [Route("/docs", self.docs), Route("/openapi.json", self.openapi)]
        handlers = {HTTPException: plain_error, ApiError: shaped_error}
        return Starlette(routes=routes, exception_handlers=handlers)

    # -- small ones

    async def health(self, http: Http) -> Response:
        return Response(status_code=503 if self.engine.dead else 200)

    async def version(self, http: Http) -> Response:
        return JSONResponse({"version": __version__})

    async def load(self, http: Http) -> Response:
        return JSONResponse({"server_load": 0})  # without --enable-server-load-tracking

    async def metrics(self, http: Http) -> Response:
        return Response(self.engine.metrics.text(), headers={"content-type": METRICS_TYPE})

    async def docs(self, http: Http) -> Response:
        return HTMLResponse(
            "\n    <!DOCTYPE html>\n    <html>\n    <head>\n    </head>\n    </html>\n"
        )

    async def openapi(self, http: Http) -> Response:
        info = {"title": "FastAPI", "version": "0.1.0"}
        return JSONResponse({"openapi": "3.1.0", "info": info, "paths": {}})

    async def refuse(self, http: Http) -> Response:
        raise ApiError(400, "BadRequestError", "Data parallel size must be more than 1")

    async def not_scaling(self, http: Http) -> Response:
        return JSONResponse({"is_scaling_elastic_ep": False})

    async def models(self, http: Http) -> Response:
        cards = [
            {
                "id": name,
                "object": "model",
                "created": self.created,
                "owned_by": "vllm",
                "root": self.root,
                "parent": None,
                "max_model_len": self.features.max_length,
                "permission": [permission(self.created)],
            }
            for name in self.features.served
        ]
        return JSONResponse({"object": "list", "data": cards})

    async def tokenize(self, http: Http) -> Response:
        body = protocol.parse(
            protocol.TokenizeRequest, await json_body(http), "/tokenize", "tokenize"
        )
        check_model(body, self.features)
        tokens = tokenize(body.prompt or "")
        return JSONResponse(
            {
                "count": len(tokens),
                "max_model_len": self.features.max_length,
                "tokens": tokens,
                "token_strs": None,
            }
        )

    async def detokenize(self, http: Http) -> Response:
        body = protocol.parse(
            protocol.DetokenizeRequest, await json_body(http), "/detokenize", "detokenize"
        )
        check_model(body, self.features)
        return JSONResponse({"prompt": detokenize(body.tokens)})

    # -- generation

    async def invocations(self, http: Http) -> Response:
        """Any request, by its shape."""
        body = await json_body(http)
        if isinstance(body, dict) and "messages" in body:
            return await self._chat(body, "/invocations")
        return await self._completions(body, "/invocations")

    async def chat(self, http: Http) -> Response:
        return await self._chat(await json_body(http), "/v1/chat/completions")

    async def completions(self, http: Http) -> Response:
        return await self._completions(await json_body(http), "/v1/completions")

    async def _chat(self, data: Any, route: str) -> Response:
        body = protocol.parse(protocol.ChatRequest, data, route, "create_chat_completion")
        check_model(body, self.features)
        request, call = prepare(body, self.features)
        answer = Answer(body.model or self.features.served[0], "chatcmpl", request)
        thinking = thinks(body, self.features) and call is None
        if body.stream:
            events = self._stream_chat(body, answer, thinking, call)
            return StreamingResponse(events, headers={"content-type": SSE_TYPE})
        pieces = [piece async for piece in self.engine.generate(request)]
        split = REASONING_TOKENS if thinking else 0
        message = {
            "role": "assistant",
            "content": "".join(pieces[split:]).lstrip() or None,
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "reasoning": "".join(pieces[:split]) or None,
        }
        finish = request.finish
        if call is not None:
            message |= {"content": None, "tool_calls": [call]}
            finish = "tool_calls" if finish == "stop" else finish
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": finish,
            "stop_reason": None,
            "token_ids": None,
            "routed_experts": None,
        }
        tail = {"prompt_logprobs": None, "prompt_token_ids": None, "prompt_text": None}
        return JSONResponse(
            answer.whole("chat.completion", choice) | tail | {"kv_transfer_params": None}
        )

    async def _stream_chat(
        self, body: Any, answer: "Answer", thinking: bool, call: dict[str, Any] | None
    ) -> AsyncIterator[str]:
        first = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None}
        opening = answer.chunk("chat.completion.chunk", [{**first, "finish_reason": None}])
        yield event(opening | {"prompt_token_ids": None, "prompt_text": None})
        position = 0
        async for piece in self.engine.generate(answer.request):
            delta: dict[str, Any]
            if call is not None:
                delta = tool_delta(call, piece, position == 0)
            elif thinking and position < REASONING_TOKENS:
                delta = {"reasoning": piece}
            else:
                new = thinking and position == REASONING_TOKENS
                delta = {"content": piece.lstrip() if new else piece}
            position += 1
            choice = {"index": 0, "delta": delta, "logprobs": None}
            finish = answer.request.finish or None
            if finish == "stop" and call is not None:
                finish = "tool_calls"
            choice["finish_reason"] = finish
            if finish:
                choice["stop_reason"] = None
            yield event(answer.chunk("chat.completion.chunk", [{**choice, "token_ids": None}]))
        if body.stream_options and body.stream_options.include_usage:
            last = answer.chunk("chat.completion.chunk", [])
            yield event(last | {"usage": answer.usage(), "system_fingerprint": FINGERPRINT})
        yield "data: [DONE]\n\n"

    async def _completions(self, data: Any, route: str) -> Response:
        body = protocol.parse(protocol.CompletionRequest, data, route, "create_completion")
        check_model(body, self.features)
        wanted = 16 if body.max_tokens is None else body.max_tokens
        request = make_request(body, prompt_tokens(body.prompt), wanted, self.features)
        answer = Answer(body.model or self.features.served[0], "cmpl", request)
        if body.stream:
            events = self._stream_completion(body, answer)
            return StreamingResponse(events, headers={"content-type": SSE_TYPE})
        text = "".join([piece async for piece in self.engine.generate(request)])
        choice = {
            "index": 0,
            "text": text,
            "logprobs": None,
            "finish_reason": request.finish,
            "stop_reason": None,
            "token_ids": None,
            "prompt_logprobs": None,
            "prompt_token_ids": None,
            "routed_experts": None,
        }
        return JSONResponse(answer.whole("text_completion", choice) | {"kv_transfer_params": None})

    async def _stream_completion(self, body: Any, answer: "Answer") -> AsyncIterator[str]:
        async for piece in self.engine.generate(answer.request):
            choice = {
                "index": 0,
                "text": piece,
                "logprobs": None,
                "finish_reason": answer.request.finish or None,
                "stop_reason": None,
                "token_ids": None,
            }
            yield event(answer.chunk("text_completion", [choice]))
        if body.stream_options and body.stream_options.include_usage:
            last = answer.chunk("text_completion", [])
            yield event(last | {"usage": answer.usage(), "system_fingerprint": FINGERPRINT})
        yield "data: [DONE]\n\n"


class Answer:
    """What every part of one answer repeats."""

    def __init__(self, model: str, prefix: str, request: Request) -> None:
        self.model, self.request = model, request
        self.id = f"{prefix}-{secrets.token_hex(8)}"
        self.created = int(time.time())

    def chunk(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }

    def usage(self) -> dict[str, Any]:
        prompt, produced = len(self.request.prompt), self.request.produced
        return {
            "prompt_tokens": prompt,
            "total_tokens": prompt + produced,
            "completion_tokens": produced,
        }

    def whole(self, kind: str, choice: dict[str, Any]) -> dict[str, Any]:
        return self.chunk(kind, [choice]) | {
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": {**self.usage(), "prompt_tokens_details": None},
        }


def permission(created: int) -> dict[str, Any]:
    return {
        "id": f"modelperm-{secrets.token_hex(8)}",
        "object": "model_permission",
        "created": created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }


def tool_delta(call: dict[str, Any], piece: str, first: bool) -> dict[str, Any]:
    if not first:
        return {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
    function = {"name": call["function"]["name"], "arguments": piece}
    entry = {"index": 0, "id": call["id"], "type": "function", "function": function}
    return {"tool_calls": [entry]}


def prompt_tokens(prompt: Any) -> list[int]:
    if isinstance(prompt, str):
        return tokenize(prompt)
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], int):
        return list(prompt)
    if isinstance(prompt, list) and len(prompt) == 1:
        return prompt_tokens(prompt[0])
    raise ApiError(400, "BadRequestError", "Either prompt or prompt_embeds must be provided.")


async def json_body(http: Http) -> Any:
    kind = http.headers.get("content-type", "").split(";")[0]
    if kind != "application/json":
        message = "Unsupported Media Type: Only 'application/json' is allowed"
        raise ApiError(415, "Unsupported Media Type", message)
    try:
        return json.loads(await http.body())
    except ValueError as error:
        problem = {"type": "json_invalid", "loc": ("body", 0), "msg": "JSON decode error"}
        message = f"1 validation error:\n  {problem}"
        raise ApiError(400, "Bad Request", message, "body") from error


def event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False, separators=(',', ':'))}\n\n"


async def plain_error(http: Http, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, status_code=error.status_code)


async def shaped_error(http: Http, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body, status_code=error.status)
