"""What the engine and a provider say to each other, without the wire: requests, answers, errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .values import Object


class RefusedError(Exception):
    """The provider's answer is an error; its text reaches the user as it is."""


class PartlyDoneError(Exception):
    """Something was made or changed, and then it failed: the engine keeps `properties` as its
    state."""

    def __init__(self, resource_id: str, properties: Object, inputs: Object, reason: str) -> None:
        super().__init__(reason)
        self.resource_id, self.properties, self.inputs = resource_id, properties, inputs


@dataclass(frozen=True)
class Urn:
    """The engine's name of a resource."""

    text: str

    @property
    def type(self) -> str:
        return self.text.split("::")[2].split("$")[-1]

    @property
    def name(self) -> str:
        return "::".join(self.text.split("::")[3:])


@dataclass
class Checked:
    """Inputs with their defaults, or what is wrong with them."""

    inputs: Object
    failures: list[str] = field(default_factory=list)


@dataclass
class Difference:
    """Paths that differ (kind by path), and what follows from it."""

    changes: dict[str, str] = field(default_factory=dict)
    replaces: list[str] = field(default_factory=list)
    delete_before_replace: bool = False


@dataclass(frozen=True)
class Request:
    """What every call on a resource carries; `ignore` are the program's ignoreChanges."""

    urn: Urn
    resource_id: str = ""
    old: Object = field(default_factory=dict)
    old_inputs: Object = field(default_factory=dict)
    inputs: Object = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    preview: bool = False
    timeout_s: float = 0
    seed: bytes = b""


def variables_of(inputs: Mapping[str, Any]) -> Object:
    """Provider configuration without the engine's own keys."""
    return {
        key: value for key, value in inputs.items() if key not in ("version", "pluginDownloadURL")
    }
