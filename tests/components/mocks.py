"""Pulumi mocks that record, and that refuse what the stock ones let pass."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pulumi
from pulumi.runtime import mocks
from pulumi.runtime.mocks import MockCallArgs, MockResourceArgs

PROJECT = "proj-1"
PROJECT_NUMBER = "123456789012"


@dataclass(frozen=True)
class Made:
    """One registered resource: type token, name, inputs as the engine got them, options."""

    type: str
    name: str
    inputs: dict[str, Any]


@dataclass
class RecordingMocks(mocks.Mocks):
    """Records resources; a repeated (type, name) or a call nobody expects is an error.

    calls: token -> function of the arguments. An entry that raises answers with its error.
    """

    calls: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = field(default_factory=dict)
    made: list[Made] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        if any((args.typ, args.name) == (each.type, each.name) for each in self.made):
            raise AssertionError(f"two resources {args.typ} named {args.name}")
        self.made.append(Made(args.typ, args.name, dict(args.inputs)))
        return _id(args), {**args.inputs, **_computed(args)}

    def call(self, args: MockCallArgs) -> dict[str, Any]:
        self.asked.append(args.token)
        if args.token not in self.calls:
            raise AssertionError(f"unexpected invoke {args.token}")
        return self.calls[args.token](dict(args.args))

    def of(self, kind: str) -> list[Made]:
        """Resources whose type token ends in `kind`, e.g. "instance:Instance"."""
        return [each for each in self.made if each.type.endswith(kind)]


def _id(args: MockResourceArgs) -> str:
    name = args.inputs.get("name") or args.inputs.get("secretId") or args.name
    return f"{args.typ.rpartition(':')[2].lower()}s/{name}"


def _computed(args: MockResourceArgs) -> dict[str, Any]:
    """What Google adds, as far as the program reads it."""
    name = args.inputs.get("name", args.name)
    kind = args.typ.rpartition(":")[2]
    if kind == "Account":
        email = f"{args.inputs['accountId']}@{PROJECT}.iam.gserviceaccount.com"
        path = f"projects/{PROJECT}/serviceAccounts/{email}"
        return {"email": email, "member": f"serviceAccount:{email}", "name": path}
    if kind == "IAMCustomRole":
        return {"name": f"projects/{PROJECT}/roles/{args.inputs['roleId']}"}
    if kind == "Function":
        return {"serviceConfig": {**args.inputs["serviceConfig"], "uri": "https://reaper.run/"}}
    if kind == "Instance":
        return {"instanceId": "4711", "creationTimestamp": "2026-11-23T10:00:00.000-08:00"}
    if kind == "Command":
        return {"stdout": "serving"}
    return {"selfLink": f"https://www.googleapis.com/compute/v1/{name}"}


def install(recorder: RecordingMocks, stack: str) -> None:
    """Make `recorder` what the next program runs against."""
    pulumi.runtime.set_mocks(recorder, project="mayfly", stack=stack, preview=False)
