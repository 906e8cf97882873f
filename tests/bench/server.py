"""A small OpenAI-compatible server that streams at a set pace and misbehaves on request."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-for-tests"


@dataclass
class Behaviour:
    """ttft_s, gap_s: the pace. per_chunk: tokens. faults: one a chat request, "" for none.

    shapeless: answers without what the protocol promises. absent: paths that it does not have.
    dead_at: requests for so many tokens are answered 500; stalls_at: not before `released`.
    limit: of context, in words; what is over it is cut off silently where `cuts`. thinking: the
    field in which it thinks aloud.
    """

    ttft_s: float = 0.02
    gap_s: float = 0.005
    per_chunk: int = 1
    open_paths: tuple[str, ...] = ()
    usage: bool = True
    shapeless: bool = False
    absent: tuple[str, ...] = ()
    dead_at: int = 0
    stalls_at: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    limit: int = 8192
    cuts: bool = False
    thinking: str = ""
    faults: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    under_way: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def counted_in(self) -> Iterator[None]:
        with self.lock:
            self.under_way += 1
            self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            yield
        finally:
            with self.lock:
                self.under_way -= 1

    def next_fault(self) -> str:
        with self.lock:
            return self.faults.pop(0) if self.faults else ""


class Handler(BaseHTTPRequestHandler):
    behaviour: Behaviour

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def counted(self, body: dict[str, Any], tokens: int) -> dict[str, int]:
        """`usage`: a token a word, and five for the chat template."""
        read = 5 + sum(len(str(m["content"]).split()) for m in body["messages"])
        if self.behaviour.cuts:
            read = min(read, self.behaviour.limit // 2)
        return {"prompt_tokens": read, "completion_tokens": tokens, "total_tokens": read + tokens}

    def answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def authorized(self) -> bool:
        if self.path in ("/health", *self.behaviour.open_paths):
            return True
        if self.headers.get("Authorization") == f"Bearer {KEY}":
            return True
        self.answer(401, {"error": "Unauthorized"})
        return False

    def do_GET(self) -> None:
        if self.authorized():
            self.answer(200, {"object": "list", "data": [self.card()]})

    def card(self) -> dict[str, Any]:
        return {"id": "kimi", "max_model_len": self.behaviour.limit}

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path in self.behaviour.absent:
            self.answer(404, {"detail": "Not Found"})
            return
        if not self.authorized():
            return
        with self.behaviour.lock:
            self.behaviour.bodies.append(body)
        if body["max_tokens"] == self.behaviour.stalls_at:
            self.behaviour.released.wait(60)
            return
        fault = self.behaviour.next_fault()
        if fault == "500" or body["max_tokens"] == self.behaviour.dead_at:
            self.answer(500, {"error": {"message": "engine dead", "code": 500}})
        elif self.counted(body, 0)["prompt_tokens"] > self.behaviour.limit:
            message = f"This model's maximum context length is {self.behaviour.limit} tokens."
            self.answer(400, {"error": {"message": message, "code": 400}})
        elif body.get("stream"):
            with self.behaviour.counted_in():
                self.stream(body, fault)
        else:
            self.answer(200, self.whole(body))

    def whole(self, body: dict[str, Any]) -> dict[str, Any]:
        if self.behaviour.shapeless:
            return {"choices": []}
        tokens = body["max_tokens"]
        message: dict[str, Any] = {"role": "assistant", "content": "word " * tokens}
        if self.behaviour.thinking:
            message[self.behaviour.thinking] = "<think>so</think>" + (message["content"] or "")
        reason = "length"
        if body.get("tools"):
            call = {"name": body["tools"][0]["function"]["name"], "arguments": '{"city": "Paris"}'}
            message |= {"content": None, "tool_calls": [{"id": "1", "function": call}]}
            reason = "tool_calls"
        usage = self.counted(body, tokens)
        return {"choices": [{"message": message, "finish_reason": reason}], "usage": usage}

    def event(self, data: Any) -> None:
        self.wfile.write(b"data: " + json.dumps(data).encode() + b"\n\n")

    def stream(self, body: dict[str, Any], fault: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        time.sleep(self.behaviour.ttft_s)
        tokens = body["max_tokens"]
        for sent in range(0, tokens, self.behaviour.per_chunk):
            if sent:
                time.sleep(self.behaviour.gap_s)
            if fault == "cut" and sent:
                return
            last = sent + self.behaviour.per_chunk >= tokens
            field = self.behaviour.thinking if not sent else ""
            delta = {field or "content": "<think>so</think>" if field else "w "}
            choice = {"delta": delta, "finish_reason": "length" if last else None}
            self.event({"choices": [choice]})
        if self.behaviour.usage:
            usage = self.counted(body, tokens)
            self.event({"choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # five, the default, makes the sixth of a burst wait a second


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[str]:
    """The base URL of a server with this behaviour."""
    handler = type("Paced", (Handler,), {"behaviour": behaviour})
    server = Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
