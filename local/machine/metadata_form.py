"""The forms in which the metadata server gives its values: text, listing, JSON."""

import json
from collections.abc import Iterator
from typing import Any


def recursive(query: dict[str, str]) -> bool:
    """Whether the whole tree below is asked for."""
    return query.get("recursive", "").lower() == "true"


def render(node: Any, query: dict[str, str]) -> tuple[str, str]:
    """A value as text or JSON: a leaf is text unless JSON is asked for, a recursive read JSON."""
    wish = query.get("alt")
    if isinstance(node, dict) and "access_token" in node:
        return "application/json", json.dumps(node)
    if not isinstance(node, dict | list):
        text = str(node)
        return (
            ("application/json", json.dumps(text))
            if wish == "json"
            else (
                "application/text",
                text,
            )
        )
    if isinstance(node, dict) and not recursive(query) and wish != "json":
        return "application/text", "".join(f"{name}\n" for name in listing(node))
    if wish == "text":
        return "application/text", "".join(f"{line}\n" for line in flat(node, ""))
    return "application/json", json.dumps(camel(node))


def listing(node: dict[str, Any]) -> list[str]:
    """A directory's entries; those that are directories end in a slash."""
    return sorted(f"{key}/" if isinstance(value, dict) else key for key, value in node.items())


def flat(node: Any, prefix: str) -> Iterator[str]:
    """`?recursive=true&alt=text`: one `path value` a line."""
    if isinstance(node, dict):
        for key, value in sorted(node.items()):
            yield from flat(value, f"{prefix}/{key}" if prefix else key)
    elif not callable(node):
        yield f"{prefix} {node if not isinstance(node, list) else json.dumps(node)}"


def camel(node: Any, verbatim: bool = False) -> Any:
    """Keys as the JSON form has them; those of `attributes` are the user's and stay."""
    if isinstance(node, dict):
        if node and all(key.isdigit() for key in node):
            return [camel(value) for _, value in sorted(node.items())]
        return {
            key if verbatim else _camel_key(key): camel(
                value, key in ("attributes", "guest-attributes", "service-accounts")
            )
            for key, value in node.items()
            if not callable(value)
        }
    return node


def _camel_key(key: str) -> str:
    head, *rest = key.split("-")
    return head + "".join(word.capitalize() for word in rest)
