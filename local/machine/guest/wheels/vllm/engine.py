"""Turns prompts into words at a steady pace, a few at a time, and counts truthfully."""

import asyncio
import hashlib
import re
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from vllm.metrics import Metrics


def _words(text: str) -> list[str]:
    return text.split()


WORDS = _words(
    """
    the model answers in plain words and keeps a steady pace while it reads what was asked one
    after another so that each request gets its share of time and nothing is lost on way from
    here to there
    """
)
VOCABULARY = [f" {word}" for word in dict.fromkeys(WORDS)]
FIRST_WORD_ID = 256  # below: single bytes
FIRST_TRIPLE_ID = 1_000  # three letters; then the same behind a blank; then printable pairs
LETTERS = 26**3
FIRST_PAIR_ID = FIRST_TRIPLE_ID + 2 * LETTERS
PAIRS = 95 * 95
PREFILL_TOKENS_PER_S = 20_000.0
_KNOWN = sorted((re.escape(word) for word in VOCABULARY), key=len, reverse=True)
_PIECES = re.compile(
    "|".join([rf"(?:{'|'.join(_KNOWN)})(?![a-z])", " ?[a-z]{3}", "[ -~]{2}", "."]), re.DOTALL
)


def tokenize(text: str) -> list[int]:
    """About three characters a token; `detokenize` gives exactly the text back."""
    tokens: list[int] = []
    for match in _PIECES.finditer(text):
        tokens += encode(match[0])
    return tokens


def encode(piece: str) -> list[int]:
    if piece in VOCABULARY:
        return [FIRST_WORD_ID + VOCABULARY.index(piece)]
    if re.fullmatch(" ?[a-z]{3}", piece):
        a, b, c = (ord(letter) - 97 for letter in piece[-3:])
        return [FIRST_TRIPLE_ID + (a * 26 + b) * 26 + c + (LETTERS if piece[0] == " " else 0)]
    if re.fullmatch("[ -~]{2}", piece):
        return [FIRST_PAIR_ID + (ord(piece[0]) - 32) * 95 + ord(piece[1]) - 32]
    return list(piece.encode())


def decode(token: int) -> bytes:
    if token < FIRST_WORD_ID:
        return bytes([token])
    if token < FIRST_TRIPLE_ID:
        known = VOCABULARY[token - FIRST_WORD_ID : token - FIRST_WORD_ID + 1]
        return "".join(known).encode()
    if token < FIRST_PAIR_ID:
        blank, rest = divmod(token - FIRST_TRIPLE_ID, LETTERS)
        letters = bytes(97 + rest // 26**power % 26 for power in (2, 1, 0))
        return b" " * blank + letters
    if token < FIRST_PAIR_ID + PAIRS:
        first, second = divmod(token - FIRST_PAIR_ID, 95)
        return bytes([32 + first, 32 + second])
    return b""


def detokenize(tokens: list[int]) -> str:
    return b"".join(decode(token) for token in tokens).decode(errors="replace")


@dataclass
class Request:
    """One generation."""

    prompt: list[int]
    max_tokens: int
    ignore_eos: bool = False
    seed: int = 0
    text: str | None = None  # said verbatim instead of made-up words (a tool call)
    arrived: float = field(default_factory=time.monotonic)
    produced: int = 0
    finish: str = ""

    def words(self) -> list[str]:
        """What will be said if nothing cuts it short: the same for the same prompt."""
        if self.text is not None:
            return re.findall(r"\s*\S{1,8}", self.text)
        key = f"{self.seed}:{self.prompt}".encode()
        length = 24 + hashlib.sha256(key).digest()[0] % 96
        count = self.max_tokens if self.ignore_eos else length
        stream = hashlib.shake_256(key).digest(min(count, 4096))
        words = [VOCABULARY[stream[i % len(stream)] % len(VOCABULARY)] for i in range(count)]
        return [words[0].strip().capitalize(), *words[1:]] if words else []


@dataclass(frozen=True)
class PrefixCache:
    """tokens: what the whole KV cache holds. block: tokens in one entry of it. on: it is used."""

    tokens: int
    block: int = 16
    on: bool = True


class Engine:
    """Runs at most `seats` requests at once; the others wait in order."""

    def __init__(
        self, metrics: Metrics, seats: int, tokens_per_s: float, cache: PrefixCache
    ) -> None:
        self.metrics, self.seats = metrics, seats
        self.tokens_per_s, self.cache = tokens_per_s, cache
        self.running: list[Request] = []
        self.waiting: deque[tuple[Request, asyncio.Future[None]]] = deque()
        self.seen: set[bytes] = set()
        self.dead = False

    async def generate(self, request: Request) -> AsyncIterator[str]:
        """Yields the text piece by piece; `request.finish` says how it ended."""
        await self._take_seat(request)
        started = time.monotonic()
        cached = self._count_prompt(request)
        try:
            await asyncio.sleep((len(request.prompt) - cached) / PREFILL_TOKENS_PER_S)
            async for piece in self._decode(request):
                yield piece
        finally:
            self._leave(request, started)

    async def _decode(self, request: Request) -> AsyncIterator[str]:
        words = request.words()
        begun = last = time.monotonic()
        self.metrics.observe("time_to_first_token_seconds", begun - request.arrived)
        for index, word in enumerate(words[: request.max_tokens]):
            due = begun + index / self.tokens_per_s
            delay = due - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            if self.dead:  # as measured: the request is gone, its connection is left open
                await asyncio.get_running_loop().create_future()
            now = time.monotonic()
            if index:
                self.metrics.observe("inter_token_latency_seconds", now - last)
            last = now
            request.produced += 1
            self.metrics.add("generation_tokens", 1)
            self.metrics.observe("iteration_tokens_total", len(self.running))
            last_one = index + 1 == min(len(words), request.max_tokens)
            if last_one:
                cut = len(words) > request.max_tokens or request.ignore_eos
                request.finish = "length" if cut else "stop"
            yield word

    async def _take_seat(self, request: Request) -> None:
        if len(self.running) >= self.seats or self.waiting:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiting.append((request, turn))
            self._show()
            try:
                await turn
            except asyncio.CancelledError:
                self._give_up(request)
                raise
        else:
            self.running.append(request)
        self.metrics.observe("request_queue_time_seconds", time.monotonic() - request.arrived)
        self._show()

    def _give_up(self, request: Request) -> None:
        self.waiting = deque(item for item in self.waiting if item[0] is not request)
        if request in self.running:
            self.running.remove(request)
            self._next()
        self._show()

    def _next(self) -> None:
        while self.waiting and len(self.running) < self.seats:
            request, turn = self.waiting.popleft()
            if not turn.done():
                self.running.append(request)
                turn.set_result(None)

    def _leave(self, request: Request, started: float) -> None:
        self.running.remove(request)
        self._next()
        self._show()
        now = time.monotonic()
        self.metrics.add_success(request.finish or "abort")
        for name, value in (
            ("request_prompt_tokens", len(request.prompt)),
            ("request_generation_tokens", request.produced),
            ("request_max_num_generation_tokens", request.produced),
            ("request_params_n", 1),
            ("request_params_max_tokens", request.max_tokens),
            ("e2e_request_latency_seconds", now - request.arrived),
            ("request_inference_time_seconds", now - started),
            ("request_decode_time_seconds", now - started),
            ("request_prefill_time_seconds", len(request.prompt) / PREFILL_TOKENS_PER_S),
            ("request_prefill_kv_computed_tokens", len(request.prompt)),
            ("request_time_per_output_token_seconds", (now - started) / max(request.produced, 1)),
        ):
            self.metrics.observe(name, value)

    def _count_prompt(self, request: Request) -> int:
        """Counts the prompt; returns how much of it an earlier one has left in the cache."""
        cached, size = 0, self.cache.block
        blocks = (len(request.prompt) - 1) // size if self.cache.on else 0
        key = b""
        for number in range(1, blocks + 1):
            block = request.prompt[(number - 1) * size : number * size]
            key = hashlib.sha256(key + repr(block).encode()).digest()
            if key in self.seen and cached == (number - 1) * size:
                cached = number * size
            if len(self.seen) * size < self.cache.tokens:
                self.seen.add(key)
        self.metrics.add("prompt_tokens", len(request.prompt))
        self.metrics.add("prefix_cache_queries", len(request.prompt) if self.cache.on else 0)
        self.metrics.add("prefix_cache_hits", cached)
        self.metrics.add("prompt_tokens_cached", cached)
        self.metrics.add_source("local_compute", len(request.prompt) - cached)
        self.metrics.add_source("local_cache_hit", cached)
        return cached

    def _show(self) -> None:
        used = sum(len(r.prompt) + r.produced for r in self.running)
        self.metrics.running = len(self.running)
        self.metrics.waiting = len(self.waiting)
        self.metrics.cache_usage = min(1.0, used / max(self.cache.tokens, 1))
