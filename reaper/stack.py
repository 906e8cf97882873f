"""A stack's state object, read as far as the reaper needs. Pure."""

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mayfly import names
from mayfly.claims import mapping
from reaper.vm import kept_settings

COMMAND = "command:local:Command"
# All that a seed or session owns. Anything else means that the stack is not one of them.
EPHEMERAL = frozenset({names.INSTANCE_TYPE, COMMAND})
# Held by the engine itself: nothing in the cloud stands behind them.
BOOKKEEPING = frozenset({"pulumi:pulumi:Stack", "pulumi:pulumi:StackReference"})
PROVIDER = "pulumi:providers:"
GZIP = b"\x1f\x8b"
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, EOFError, OSError, zlib.error)


class StateError(ValueError):
    """A state object that cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """An Instance in a stack's state. id: Compute's number, "" when the state does not have it."""

    id: str
    name: str
    zone: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Stack:
    """What one stack holds.

    leftovers: types of what a destroy would take away. foreign: types that no session owns.
    protected: URNs. has_pending: an update was cut off in the middle of a create.
    generation: which version of the state this is; 0 = not known.
    """

    name: str
    machines: tuple[Machine, ...] = ()
    leftovers: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    has_pending: bool = False
    generation: int = 0


def name_of(object_name: str) -> str | None:
    """The stack of a state object; None for backups and whatever else lies there."""
    prefix = names.stack_state("").removesuffix(".json")
    stack = object_name.removeprefix(prefix).removesuffix(".gz").removesuffix(".json")
    known = (names.stack_state(stack), names.stack_state(stack) + ".gz")
    return stack if object_name in known else None


def parse(name: str, data: bytes) -> Stack:
    """Read a checkpoint, compressed or not; StateError when it is none."""
    try:
        latest = json.loads(plain(data))["checkpoint"].get("latest") or {}
        resources = list(latest.get("resources") or [])
        pending = [entry["resource"] for entry in latest.get("pending_operations") or []]
        return _read(name, resources, pending)
    except UNREADABLE as error:
        raise StateError(f"stack {name}: its state cannot be read: {error!r}") from error


def plain(data: bytes) -> bytes:
    """What the engine wrote, which its backend may have compressed; one of UNREADABLE if broken."""
    return gzip.decompress(data) if data.startswith(GZIP) else data


def _read(name: str, resources: list[dict[str, Any]], pending: list[dict[str, Any]]) -> Stack:
    owned = [found for found in (*resources, *pending) if _is_owned(found)]
    types = [str(found["type"]) for found in owned]
    return Stack(
        name=name,
        machines=tuple(_machine(found) for found in owned if found["type"] == names.INSTANCE_TYPE),
        leftovers=tuple(types),
        foreign=tuple(kind for kind in types if kind not in EPHEMERAL),
        protected=tuple(str(found["urn"]) for found in resources if found.get("protect")),
        has_pending=bool(pending),
    )


def _is_owned(resource: Mapping[str, Any]) -> bool:
    kind = str(resource["type"])
    return bool(resource.get("custom")) and not (
        kind in BOOKKEEPING or kind.startswith(PROVIDER) or resource.get("external")
    )


def _machine(resource: Mapping[str, Any]) -> Machine:
    inputs, outputs = resource.get("inputs") or {}, resource.get("outputs") or {}
    metadata = inputs.get("metadata")
    written = metadata.get(names.SETTINGS_KEY) if isinstance(metadata, dict) else None
    return Machine(
        id=str(outputs.get("instanceId") or ""),
        name=str(outputs.get("name") or inputs.get("name") or ""),
        zone=str(outputs.get("zone") or inputs.get("zone") or ""),
        settings=kept_settings(mapping(written)),
    )
