"""How a product registers what it serves, and what its handlers are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flask import Flask

from local.rest.discovery import load
from local.rest.errors import ApiError, Style
from local.rest.faults import Fault
from local.rest.identity import Principal

if TYPE_CHECKING:
    from local.rest.world import World


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request, checked.

    params: path variables, by the names in flatPath (`secretsId`) and in path (`name`).
    body: cleaned (nulls dropped, int64 as strings); raw_body: as sent, nulls included.
    version: of the document that was called ("v1", "beta").
    fault: one that the handler itself must play (a failing or slow operation, a status).
    """

    world: World
    method_id: str
    version: str
    params: Mapping[str, str]
    query: Mapping[str, str]
    body: dict[str, Any]
    raw_body: Any
    principal: Principal
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: Fault | None = None

    def __getitem__(self, name: str) -> str:
        """A path variable."""
        return self.params[name]


Handler = Callable[[Call], Any]


@dataclass(frozen=True)
class Registered:
    """A handler and how it wants to be called."""

    handler: Handler
    locked: bool


class Service:
    """One product: where its discovery documents are mounted, and its handlers by method id.

    mounts: path prefix -> document name; the first is the one its answers are held to.
    api: the name a project enables it by; None = always on.
    install: adds what no discovery document describes (uploads, control routes).
    """

    def __init__(
        self,
        mounts: Mapping[str, str],
        *,
        style: Style = Style.RPC,
        api: str | None = None,
        title: str = "",
        install: Callable[[Flask, World], None] | None = None,
    ) -> None:
        self.mounts = dict(mounts)
        self.style = style
        self.api = api
        self.title = title
        self.install = install
        self.handlers: dict[str, Registered] = {}

    def method(self, *ids: str, locked: bool = True) -> Callable[[Handler], Handler]:
        """Register the decorated handler for these discovery method ids.

        The handler returns the answer as a dict (None = {}), or raises ApiError. It runs under
        the world's lock; `locked=False` for one that waits for something (it locks by itself).
        """

        def register(handler: Handler) -> Handler:
            for method_id in ids:
                if method_id in self.handlers:
                    raise ValueError(f"{method_id} has two handlers")
                self.handlers[method_id] = Registered(handler, locked)
            return handler

        return register

    def check_handlers(self) -> None:
        """LookupError when a handler's method is in none of the documents: a typo serves nobody."""
        known = {m for name in self.mounts.values() for m in load(name).methods}
        if strays := sorted(set(self.handlers) - known):
            raise LookupError(f"no document has {', '.join(strays)}")


def require_project(call: Call, project: str) -> None:
    """Refuse a project that is not the local one (by id or number)."""
    if project not in (call.world.project, call.world.project_number):
        raise ApiError(
            403,
            f"Permission denied on resource project {project}.",
            details=[
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "CONSUMER_INVALID",
                    "domain": "googleapis.com",
                    "metadata": {"consumer": f"projects/{project}"},
                }
            ],
        )
