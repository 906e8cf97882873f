"""The part of CEL that our conditions use, evaluated: what is outside it is refused, never passed.

An expression is parsed as a whole before any of it is evaluated, so that an unknown word behind a
`||` is seen too. Google knows more; a condition that needs it needs it here first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

TOKEN = re.compile(
    r"""\s*(?:(?P<string>'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")|(?P<number>\d+(?![\w.]))"""
    r"""|(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)"""
    r"""|(?P<sign>&&|\|\||==|!=|<=|>=|[<>!().,]))"""
)
ESCAPE = re.compile(r"\\(.)")
COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
ATTRIBUTES = frozenset(
    (
        "resource.name",
        "resource.type",
        "resource.service",
        "request.time",
        "destination.port",
    )
)

Facts = Mapping[str, Any]
Term = Callable[[Facts], Any]


class CelError(Exception):
    """The expression is outside the subset, or asks for what this request does not have."""


def evaluate(expression: str, facts: Facts) -> bool:
    """Whether the condition holds. facts: attribute -> str, int or aware datetime.

    CelError for whatever is not understood, not known for this request, or no boolean.
    """
    result = _Parser(expression).whole()(facts)
    if not isinstance(result, bool):
        raise CelError(f"the condition `{expression}` is no boolean")
    return result


class _Parser:
    """Recursive descent; each rule returns a function of the facts."""

    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._tokens = list(self._split(expression.rstrip()))
        self._at = 0

    def _split(self, text: str) -> Any:
        at = 0
        while at < len(text):
            found = TOKEN.match(text, at)
            if not found or found.lastgroup is None:
                raise self._odd(f"`{text[at:].strip()[:20]}`")
            yield found.lastgroup, found[found.lastgroup]
            at = found.end()

    def _odd(self, what: str) -> CelError:
        return CelError(
            f"the local cloud does not evaluate {what} in the condition `{self._expression}`"
        )

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "its end")

    def _next(self) -> tuple[str, str]:
        token = self._peek()
        self._at += 1
        return token

    def _take(self, sign: str) -> bool:
        if self._peek() != ("sign", sign):
            return False
        self._at += 1
        return True

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            raise self._odd(f"`{self._peek()[1]}` where `{sign}` should be")

    def whole(self) -> Term:
        term = self._either()
        if self._peek()[0] != "end":
            raise self._odd(f"`{self._peek()[1]}`")
        return term

    def _either(self) -> Term:
        terms = [self._both()]
        while self._take("||"):
            terms.append(self._both())
        return terms[0] if len(terms) == 1 else lambda facts: any(_truth(t, facts) for t in terms)

    def _both(self) -> Term:
        terms = [self._comparison()]
        while self._take("&&"):
            terms.append(self._comparison())
        return terms[0] if len(terms) == 1 else lambda facts: all(_truth(t, facts) for t in terms)

    def _comparison(self) -> Term:
        left = self._negation()
        kind, sign = self._peek()
        if kind != "sign" or sign not in COMPARISONS:
            return left
        self._at += 1
        right = self._negation()
        return lambda facts: _compared(sign, left(facts), right(facts))

    def _negation(self) -> Term:
        if self._take("!"):
            term = self._negation()
            return lambda facts: not _truth(term, facts)
        return self._called()

    def _called(self) -> Term:
        """A value, and the methods called on it."""
        kind, text = self._next()
        if kind == "sign" and text == "(":
            term = self._either()
            self._expect(")")
            return self._methods(term)
        if kind == "string":
            value = ESCAPE.sub(r"\1", text[1:-1])
            return self._methods(lambda facts: value)
        if kind == "number":
            number = int(text)
            return lambda facts: number
        if kind == "name":
            return self._named(text)
        raise self._odd(f"`{text}`")

    def _named(self, path: str) -> Term:
        if path in ("true", "false"):
            return lambda facts: path == "true"
        if path == "timestamp":
            moment = _moment(self._argument())
            return lambda facts: moment
        # `resource.name.startsWith` is one token: the attribute, then the method.
        attribute = ".".join(path.split(".")[:2])
        if attribute not in ATTRIBUTES:
            raise self._odd(f"`{path}`")
        term: Term = lambda facts: _fact(attribute, facts)  # noqa: E731
        method = path.removeprefix(attribute).removeprefix(".")
        return self._methods(self._method(method, term) if method else term)

    def _methods(self, term: Term) -> Term:
        while self._take("."):
            kind, name = self._next()
            if kind != "name":
                raise self._odd(f"`.{name}`")
            term = self._method(name, term)
        return term

    def _method(self, name: str, term: Term) -> Term:
        methods: Mapping[str, Callable[[str, str], Any]] = {
            "startsWith": str.startswith,
            "endsWith": str.endswith,
            "extract": extract,
        }
        if name not in methods:
            raise self._odd(f"`.{name}()`")
        argument = self._argument()
        method = methods[name]
        return lambda facts: method(_text(term(facts)), argument)

    def _argument(self) -> str:
        """One string literal in brackets."""
        self._expect("(")
        kind, text = self._next()
        if kind != "string":
            raise self._odd(f"`{text}` where a string should be")
        self._expect(")")
        return ESCAPE.sub(r"\1", text[1:-1])


def extract(text: str, template: str) -> str:
    """IAM's own: what stands where the template has `{...}`; "" where it does not fit."""
    found = re.fullmatch(r"([^{}]*)\{\w*\}([^{}]*)", template)
    if not found:
        raise CelError(f"`{template}` is no template for extract()")
    before, after = found.groups()
    _, there, rest = text.partition(before) if before else ("", "yes", text)
    if not there:
        return ""
    value, there, _ = rest.partition(after) if after else (rest, "yes", "")
    return value if there else ""


def _truth(term: Term, facts: Facts) -> bool:
    value = term(facts)
    if not isinstance(value, bool):
        raise CelError(f"{value!r} is no boolean")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise CelError(f"{value!r} is no string")
    return value


def _fact(attribute: str, facts: Facts) -> Any:
    if attribute not in facts:
        raise CelError(f"this request has no {attribute}")
    return facts[attribute]


def _compared(sign: str, left: Any, right: Any) -> bool:
    if type(left) is not type(right):
        raise CelError(f"no such overload: {left!r} {sign} {right!r}")
    return COMPARISONS[sign](left, right)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = datetime.min
    if moment.tzinfo is None:
        raise CelError(f"`{text}` is no RFC 3339 time")
    return moment
