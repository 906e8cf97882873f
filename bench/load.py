"""What a benchmark sends: how long prompts and answers are, and when each request goes out.

Everything but the head of each prompt follows from the seed: the same seed is the same load. The
head is new in each run, so that no request is answered from what another left in the prefix cache.
"""

import argparse
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

PROMPT = "Explain how a suspension bridge carries its load, step by step, in plain words."
HEAD_WORDS = 10
# Frequent and short: one token each to most tokenizers. 64, so ten of them are 60 random bits.
FREQUENT = """the of and to in is that for it as was with be by on not he his but at are this have
from or had an they which one you were all her she there would their we him been has when who will
no more if out so up said what its about than into them can only other time new some"""
WORDS = tuple(FREQUENT.split())


@dataclass(frozen=True)
class Lengths:
    """A distribution of lengths in tokens. kind and its two numbers:

    fixed: a, a. uniform: lowest, highest, both included. normal: mean, standard deviation, cut
    off below at one token.
    """

    kind: str
    a: int
    b: int

    def draw(self, rng: random.Random) -> int:
        if self.kind == "normal":
            return max(1, round(rng.gauss(self.a, self.b)))
        return rng.randint(self.a, self.b)

    def __str__(self) -> str:
        return str(self.a) if self.kind == "fixed" else f"{self.kind}:{self.a}:{self.b}"


def lengths(text: str) -> Lengths:
    """An argparse type: N, uniform:LOW:HIGH or normal:MEAN:DEVIATION."""
    kind, *numbers = text.split(":") if ":" in text else ("fixed", text, text)
    if kind not in ("fixed", "uniform", "normal") or len(numbers) != 2:
        raise argparse.ArgumentTypeError(f"{text}: N, uniform:LOW:HIGH or normal:MEAN:DEVIATION")
    if not all(number.isascii() and number.isdigit() for number in numbers):
        raise argparse.ArgumentTypeError(f"{text}: lengths are whole numbers of tokens")
    a, b = (int(number) for number in numbers)
    if a < 1 or (kind == "uniform" and b < a):
        raise argparse.ArgumentTypeError(f"{text}: the shortest is 1, the longest not shorter")
    return Lengths(kind, a, b)


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is sent.

    prompt: the text asked each time, behind a head of its own; "" for random words.
    input_tokens: of random prompts, the chat template's own left out; None with a prompt.
    shape: "rounds": `rounds` times `concurrent` requests together, waiting for all of them;
    "continuous": `requests` requests, a new one as soon as one of `concurrent` ends; "arrivals":
    `requests` requests at `rate_per_s`, evenly or as a Poisson process, waiting for none unless
    `concurrent` bounds them.
    """

    model: str
    shape: str
    prompt: str
    input_tokens: Lengths | None
    output_tokens: Lengths
    concurrent: int | None
    rounds: int | None
    requests: int
    rate_per_s: float | None
    arrivals: str | None
    seed: int

    def as_dict(self) -> dict[str, Any]:
        return {k: str(v) if isinstance(v, Lengths) else v for k, v in vars(self).items()}


@dataclass(frozen=True)
class Aim:
    """How many words make a prompt of so many tokens, learnt from the server's own count."""

    tokens_per_word: float
    template_tokens: int

    @classmethod
    def learnt(cls, few: tuple[int, int], many: tuple[int, int]) -> "Aim":
        """few, many: words and tokens of two prompts. ValueError if the tokens do not grow."""
        per_word = (many[1] - few[1]) / (many[0] - few[0])
        if per_word <= 0:
            raise ValueError(f"{few[1]} tokens for {few[0]} words, {many[1]} for {many[0]}")
        return cls(round(per_word, 4), round(few[1] - few[0] * per_word))

    def words(self, tokens: int) -> int:
        return round(tokens / self.tokens_per_word)


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request of a load. at_s: when it goes out, since the phase began; 0 where none is set."""

    prompt: str
    output_tokens: int
    at_s: float


def asks(load: Load, aim: Aim | None, head: str) -> Iterator[Ask]:
    """The load's requests in order. aim: for random prompts. head: what makes this run's prompts
    its own."""
    rng = random.Random(f"{load.seed} {load.concurrent}")
    fresh = random.Random(head)
    at_s = 0.0
    for _ in range(load.requests):
        tail = load.prompt
        if aim is not None and load.input_tokens is not None:
            tail = words(rng, aim.words(load.input_tokens.draw(rng)) - HEAD_WORDS)
        yield Ask(
            prompt=f"{words(fresh, HEAD_WORDS)} {tail}".strip(),
            output_tokens=load.output_tokens.draw(rng),
            at_s=at_s,
        )
        if load.rate_per_s:
            poisson = load.arrivals == "poisson"
            at_s += rng.expovariate(load.rate_per_s) if poisson else 1 / load.rate_per_s


def words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choices(WORDS, k=max(count, 0)))


def body(load: Load, ask: Ask) -> dict[str, Any]:
    """The JSON of one request. Answers have the length that was asked for, whatever they say:
    else the length of the answer, not the speed, is what differs."""
    return {
        "model": load.model,
        "messages": [{"role": "user", "content": ask.prompt}],
        "max_tokens": ask.output_tokens,
        "temperature": 0,
        "ignore_eos": True,
    }
