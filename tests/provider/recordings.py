"""The recorded traffic of the real provider, and one resource's way through it."""

from __future__ import annotations

import copy
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.provider.google import Google
from local.provider.messages import Difference, Request, Urn
from local.provider.values import ARCHIVE, ASSET, SIGNATURE, Object, plain
from tests.conftest import SHARED
from tests.provider.playback import Asked

GOLDEN = SHARED / "golden/gcp-http"
OURS, THEIRS = "goog-pulumi-provisioned", "goog-terraform-provisioned"
VARYING = (
    "nextRotationTime",
    "etag",
    "bytes",
)  # the clock; the order of parallel writers; the file


def lines(path: Path) -> list[dict[str, Any]]:
    """A recording."""
    return [json.loads(line.replace(THEIRS, OURS)) for line in path.read_text().splitlines()]


def calls(folder: str, phase: str) -> list[dict[str, Any]]:
    """The calls of a phase; recordings without requests (notes) are left out."""
    return [call for call in lines(GOLDEN / folder / f"{phase}.jsonl") if "method" in call]


def states() -> dict[str, dict[str, Any]]:
    """Inputs and outputs by resource name, right after their creation."""
    files = [
        path for path in (GOLDEN / "state").glob("*.jsonl") if "after-refresh" not in path.name
    ]
    return {row["name"]: row for path in files for row in lines(path)}


def program_inputs(value: Any, main: Path | None = None) -> Any:
    """What the program gave: recorded inputs without defaults, with readable assets and secrets."""
    if isinstance(value, dict) and "[asset]" in value:
        return _asset(value["[asset]"], main)
    if isinstance(value, dict):
        filled = [*(value.get("__defaults") or []), "__defaults"]
        return {k: program_inputs(v, main) for k, v in value.items() if k not in filled}
    if isinstance(value, list):
        return [program_inputs(entry, main) for entry in value]
    return "s3cret" if value == "[secret]" else value


def _asset(value: Object, main: Path | None) -> Object:
    if "assets" not in value:
        return {SIGNATURE: ASSET, **value}
    inner = {name: {**asset, "path": str(main)} for name, asset in value["assets"].items()}
    return {SIGNATURE: ARCHIVE, **value, "assets": inner}


def changed(inputs: Object, changes: Object) -> Object:
    """Inputs with values changed at slash-separated paths."""
    result = copy.deepcopy(inputs)
    for path, value in changes.items():
        *parents, leaf = path.split("/")
        node: Any = result
        for name in parents:
            node = node[int(name) if isinstance(node, list) else name]
        node[leaf] = value
    return result


def normal(body: Any) -> Any:
    """A request body without what differs from run to run."""
    if isinstance(body, dict):
        return {key: normal(value) for key, value in body.items() if key not in VARYING}
    return [normal(entry) for entry in body] if isinstance(body, list) else body


def asked_as_recorded(
    asked: list[Asked], recorded: list[dict[str, Any]], *, ordered: bool = True
) -> str:
    """What was asked too little or too much, or in another order per address; "" when nothing."""
    got = [(a.method, a.path, json.dumps(normal(a.body), sort_keys=True)) for a in asked]
    wanted = [
        (c["method"], c["path"], json.dumps(normal(c["request"]), sort_keys=True)) for c in recorded
    ]
    missing, extra = Counter(wanted) - Counter(got), Counter(got) - Counter(wanted)
    if missing or extra:
        return f"missing: {list(missing)}\nextra: {list(extra)}"
    for folder in {_resource(path) for _, path, _ in wanted} if ordered else ():
        ours = [call for call in got if _resource(call[1]) == folder]
        theirs = [call for call in wanted if _resource(call[1]) == folder]
        if ours != theirs:
            return f"order of {folder}:\n{ours}\n{theirs}"
    return ""


def _resource(path: str) -> str:
    """What a call is about, as far as its path tells: order counts within it."""
    return path.partition("?")[0].split(":")[0]


@dataclass
class Life:
    """One resource of the recording, carried from phase to phase."""

    row: dict[str, Any]
    given: Object
    ignore: tuple[str, ...] = ()
    inputs: Object = field(default_factory=dict)
    resource_id: str = ""
    state: Object = field(default_factory=dict)

    @property
    def urn(self) -> Urn:
        return Urn(f"urn:pulumi:golden::golden::{self.row['type']}::{self.row['name']}")

    def check(self, provider: Google, given: Object) -> Object:
        checked = provider.check(
            Request(urn=self.urn, inputs=given, old_inputs=self.inputs, seed=b"seed")
        )
        assert not checked.failures, checked.failures
        return checked.inputs

    def create(self, provider: Google) -> None:
        self.inputs = self.check(provider, self.given)
        request = Request(urn=self.urn, inputs=self.inputs)
        self.resource_id, state = provider.create(request)
        self.state = plain(state)

    def refresh(self, provider: Google) -> None:
        found, state, self.inputs = provider.read(
            Request(
                urn=self.urn,
                resource_id=self.resource_id,
                old=self.state,
                old_inputs=self.inputs,
            )
        )
        assert found == self.resource_id
        self.state = plain(state)

    def change(self, provider: Google, given: Object) -> Request:
        return Request(
            urn=self.urn,
            resource_id=self.resource_id,
            old=self.state,
            old_inputs=self.inputs,
            inputs=self.check(provider, given),
            ignore=self.ignore,
        )

    def diff(self, provider: Google, given: Object | None = None) -> Difference:
        return provider.diff(self.change(provider, self.given if given is None else given))

    def update(self, provider: Google, given: Object) -> None:
        request = self.change(provider, given)
        self.state = plain(provider.update(request))
        self.given, self.inputs = given, request.inputs

    def delete(self, provider: Google) -> None:
        provider.delete(Request(urn=self.urn, resource_id=self.resource_id, old=self.state))
