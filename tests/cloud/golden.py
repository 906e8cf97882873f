"""Replays recorded provider traffic: substitutes what a client would have learnt from answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient

from local.rest.compute.life import Life
from local.rest.compute.store import Store
from local.rest.world import World

LEARNT = ("fingerprint", "labelFingerprint", "etag", "name", "id", "generation")
AUTH = {"Authorization": "Bearer fake"}


class Replay:
    """One recording against one app. `records` may come from several files, in order."""

    def __init__(self, world: World, client: FlaskClient) -> None:
        self.world, self.client = world, client
        self._learnt: dict[str, str] = {}

    def answer(self, record: dict[str, Any]) -> tuple[int | str, Any]:
        """(status, body) of the recorded request, made anew."""
        request = self._with_learnt(record["request"])
        path = self._with_learnt(record["path"])
        if record["status"] == 404:
            self._vanish(path)
        response = self.client.open(path, method=record["method"], json=request, headers=AUTH)
        if self.world.calls.report()["calls"][-1]["status"] == "dropped":
            return "connection dropped", None
        body = response.get_json(silent=True)
        self._learn(record["response"], body)
        return response.status_code, body

    def _vanish(self, path: str) -> None:
        """The recordings have resources that went without a word."""
        where = path.partition("?")[0].split("/", 3)[3]
        with self.world.lock:
            found = self.world.of(Store).find(where)
            if found and found["kind"] == "compute#instance":
                self.world.of(Life).forget(found)
            elif found:
                self.world.of(Store).remove(found)

    def _with_learnt(self, value: Any) -> Any:
        if value is None:
            return None
        text = json.dumps(value)
        for recorded, ours in self._learnt.items():
            text = text.replace(json.dumps(recorded)[1:-1], json.dumps(ours)[1:-1])
        return json.loads(text)

    def _learn(self, recorded: Any, ours: Any) -> None:
        if isinstance(recorded, dict) and isinstance(ours, dict):
            for key in recorded.keys() & ours.keys():
                old, new = recorded[key], ours[key]
                if key in LEARNT and isinstance(old, str) and isinstance(new, str):
                    if old != new:
                        self._learnt[old] = new
                else:
                    self._learn(old, new)
        elif isinstance(recorded, list) and isinstance(ours, list):
            for old, new in zip(recorded, ours, strict=False):
                self._learn(old, new)


def records(*files: Path) -> list[dict[str, Any]]:
    """The requests of some files, in order; notes are left out."""
    lines = [line for file in files for line in file.read_text().splitlines()]
    return [r for r in map(json.loads, lines) if "path" in r]
