"""What the page can do, and what it holds while it does: lines to endpoints, downs under way."""

import threading
from collections.abc import Mapping
from typing import Any

from mayfly import spans
from mayfly.errors import RefusedError, WrongInputError
from mayfly.page import children
from mayfly.page.sight import Sight
from mayfly.project import Project


class Desk:
    """One project's sessions, to see and to act on; safe to call from many threads."""

    def __init__(self, project: Project, sight: Sight) -> None:
        self._root, self._sight = project.root, sight
        self._lock = threading.Lock()
        self._lines: dict[str, children.Line] = {}
        self._downs: dict[str, children.Down] = {}

    def sessions(self) -> dict[str, Any]:
        """What runs, as `Sight` tells it, with `down` and `base_url` of each machine."""
        seen = self._sight.sessions.get()
        there = {row["vm_id"] for row in seen["sessions"]}
        self._close([id_ for id_, line in self._all_lines() if id_ not in there or not line.up])
        rows = []
        for row in seen["sessions"]:
            down = self._downs.get(row["vm_id"])
            line = self._lines.get(row["vm_id"])
            held = {"down": down.facts() if down else None, "base_url": line and line.base_url}
            rows.append(row | held)
        return seen | {"sessions": rows}

    def ledger(self) -> dict[str, Any]:
        """What is gone, as `mayfly cost --json` tells it, with the last records only."""
        return self._sight.ledger.get()

    def act(self, verb: str, session: str, vm_id: str, sent: Mapping[str, Any]) -> None:
        """Do one thing to the machine that the page showed. Raises what the command told."""
        self._check(session, vm_id)
        if verb == "keep":
            span = str(sent.get("span", ""))
            if not spans.parse_span(span):
                raise WrongInputError(f"{span!r} is no time.", "Nothing was attempted.")
            children.run(self._root, "keep", span, session)
        elif verb == "release":
            children.run(self._root, "keep", "--release", session)
        elif verb == "connect":
            self.line(session, vm_id)
        elif verb == "disconnect":
            self._close([vm_id])
        elif verb == "down":
            self._down(session, vm_id)
        self._sight.sessions.forget()

    def line(self, session: str, vm_id: str) -> dict[str, Any]:
        """base_url, model and api_key of an open line; opens one where there is none."""
        row = self._check(session, vm_id)
        if row["phase"] != "serving" or row["status"] != "RUNNING":
            raise RefusedError(
                f"{session} does not serve: it is {row['phase']}.", "Nothing was sent."
            )
        with self._lock:
            line = self._lines.get(vm_id)
            if line is None or not line.up:
                if line is not None:
                    line.close()
                line = self._lines[vm_id] = children.Line(self._root, session)
        try:
            return line.wait_open()
        except Exception:
            self._close([vm_id])
            raise

    def _down(self, session: str, vm_id: str) -> None:
        self._close([vm_id])
        with self._lock:
            under_way = self._downs.get(vm_id)
            if under_way is None or not under_way.running:
                self._downs[vm_id] = children.Down(self._root, session)

    def _check(self, session: str, vm_id: str) -> dict[str, Any]:
        """The machine's row. RefusedError when the page showed one that is not there any more."""
        for row in self._sight.sessions.get()["sessions"]:
            if (row["session"], row["vm_id"]) == (session, vm_id):
                found: dict[str, Any] = row
                return found
        raise RefusedError(
            f"The machine of {session!r} that the page showed is gone.",
            "Nothing was attempted; another of that name is left alone.",
            "Try: mayfly status",
        )

    def _all_lines(self) -> list[tuple[str, children.Line]]:
        with self._lock:
            return list(self._lines.items())

    def _close(self, vm_ids: list[str]) -> None:
        with self._lock:
            lines = [self._lines.pop(vm_id) for vm_id in vm_ids if vm_id in self._lines]
        for line in lines:
            line.close()

    def downs(self) -> list[children.Down]:
        """Those that are still under way."""
        return [down for down in self._downs.values() if down.running]

    def close(self) -> None:
        """Close every line; a down goes on."""
        self._close([vm_id for vm_id, _ in self._all_lines()])
