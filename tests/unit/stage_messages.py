"""Every message by which a stage of ours ends, as a log would show it, read from the sources."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

FAILS = re.compile(r'\bfail "')
PLACES = {
    "uri": "gs://b/models/m/r",
    "MAYFLY_API_KEY_SECRET": "projects/p/secrets/mayfly-api-key",
}
"""What is in a variable, where the rest of the message does not make that plain."""
RAISED = ("SeedError", "FinalError", "StallError")


def of_scripts() -> list[tuple[str, str]]:
    """(script, message). One that is nothing but a variable holds somebody else's words."""
    found = []
    for path in sorted((ROOT / "startup").glob("*.sh")):
        text = path.read_text()
        for match in FAILS.finditer(text):
            message = expanded(text, match.end())
            if re.search(r"[a-z]{3}", message.replace(PLACES["uri"], "")):
                found.append((path.name, message))
    return found


def expanded(text: str, at: int) -> str:
    """The bash string that begins here, what it expands in place of each expansion."""
    out = []
    while text[at] != '"':
        if text[at] == "$":
            value, at = expansion(text, at + 1)
            out.append(value)
        else:
            at += text[at] == "\\"
            out.append(text[at])
            at += 1
    return "".join(out)


def expansion(text: str, at: int) -> tuple[str, int]:
    """What stands behind a dollar, and where it ends."""
    closing = {"(": ")", "{": "}"}.get(text[at])
    if closing is None:
        name = re.compile(r"\w+").match(text, at)
        assert name
        return PLACES.get(name[0], "7"), name.end()
    opening, begin, depth = text[at], at, 0
    while True:
        depth += (text[at] == opening) - (text[at] == closing)
        at += 1
        if depth == 0:
            return PLACES.get(text[begin + 1 : at - 1], "7"), at


def of_modules() -> list[tuple[str, str]]:
    """(module, message) of what is raised for the user, or explained to him."""
    found = []
    for path in sorted((ROOT / "startup").rglob("*.py")):
        found += [(path.name, message) for message in of_module(path)]
    return found


def of_module(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            if isinstance(node.exc.func, ast.Name) and node.exc.func.id in RAISED:
                yield from texts(node.exc.args)
        elif isinstance(node, ast.FunctionDef) and node.name == "explain":
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return | ast.Assign) and inner.value is not None:
                    yield from texts([inner.value])


def texts(values: list[ast.expr]) -> Iterator[str]:
    """Those that say something, with a word for each value in them; no sentence's second half."""
    for value in values:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            said = value.value
        elif isinstance(value, ast.JoinedStr):
            said = "".join(
                str(part.value) if isinstance(part, ast.Constant) else "429"
                for part in value.values
            )
        else:
            continue
        if len(said.split()) > 5 and not said.startswith("429. "):
            yield said
