"""IAM conditions: kept as given, refused when they could not be an expression."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from local.rest.errors import ApiError
from local.rest.words import words

TOKEN = re.compile(
    r"""\s+|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[A-Za-z_][\w]*|\d+(?:\.\d+)?"""
    r"""|&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]]"""
)
PAIRS = {")": "(", "]": "["}
FIELDS = frozenset(
    words(
        "resource.name resource.type resource.service resource.matchTag "
        "resource.matchTagId resource.hasTagKey "
        "resource.hasTagKeyId request.time request.path request.host request.auth "
        "destination.ip destination.port "
        "api.getAttribute origin.ip origin.port"
    )
)


def check(condition: Mapping[str, Any]) -> None:
    """400 for a condition without a title or whose expression does not parse."""
    expression = condition.get("expression", "")
    if not condition.get("title"):
        raise ApiError(400, "Condition title must not be empty.")
    if not expression:
        raise ApiError(400, "Condition expression must not be empty.")
    if problem := _problem(_tokens(expression), expression):
        raise ApiError(400, f"Condition expression compilation failed. {problem}")


def _tokens(expression: str) -> list[str]:
    tokens, at = [], 0
    while at < len(expression):
        found = TOKEN.match(expression, at)
        if not found:
            raise ApiError(
                400,
                f"Condition expression compilation failed. ERROR: <input>:1:{at + 1}: "
                f"Syntax error: token recognition error at: '{expression[at]}'",
            )
        at = found.end()
        if found.group().strip():
            tokens.append(found.group())
    return tokens


def _problem(tokens: list[str], expression: str) -> str | None:
    open_: list[str] = []
    for token in tokens:
        if token in PAIRS.values():
            open_.append(token)
        elif token in PAIRS and (not open_ or open_.pop() != PAIRS[token]):
            return f"ERROR: <input>: Syntax error: extraneous input '{token}'"
    if open_:
        return "ERROR: <input>: Syntax error: missing ')' at '<EOF>'"
    if tokens[-1] in ("&&", "||", "==", "!=", ".", ",", "!", "<", ">"):
        return "ERROR: <input>: Syntax error: mismatched input '<EOF>'"
    for root, field in re.findall(
        r"\b(resource|request|destination|api|origin)\.(\w+)", _bare(expression)
    ):
        if f"{root}.{field}" not in FIELDS:
            return f"ERROR: <input>: undefined field '{field}'"
    return None


def _bare(expression: str) -> str:
    """Without its string literals."""
    return re.sub(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\"""", "''", expression)
