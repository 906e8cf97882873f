"""A Pulumi engine that records, and that refuses what the stock mocks let pass."""

import asyncio
import logging
import runpy
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pulumi
from google.protobuf import empty_pb2, json_format
from pulumi.runtime import mocks, settings
from pulumi.runtime.stack import run_in_stack
from pulumi.runtime.sync_await import _ensure_event_loop

from tests.conftest import ROOT

PROJECT = "proj-1"
SECRET = "4dabf18193072939515e22adb298388d"
"""The key under which Pulumi marks a value on the wire."""


class Refused(grpc.RpcError):
    """What a provider's or the engine's "no" looks like to the SDK."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._text = text

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNKNOWN

    def details(self) -> str:
        return self._text


Call = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Made:
    """One registered resource: what the engine got, and the options that decide its fate."""

    type: str
    name: str
    inputs: dict[str, Any]
    protect: bool
    secret_outputs: tuple[str, ...]
    ignored: tuple[str, ...]
    replacing: tuple[str, ...]

    @property
    def kind(self) -> str:
        """ "Instance" of "gcp:compute/instance:Instance"."""
        return self.type.rpartition(":")[2]


@dataclass
class World(mocks.Mocks):
    """What a program asked of the engine. A repeated name or an unexpected call is an error."""

    calls: Mapping[str, Call] = field(default_factory=dict)
    made: list[Made] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def of(self, kind: str) -> list[Made]:
        return [each for each in self.made if each.kind == kind]

    def one(self, kind: str, name: str = "") -> Made:
        (found,) = [each for each in self.of(kind) if not name or each.name == name]
        return found

    def secret_names(self) -> set[str]:
        """The stack outputs that are marked secret."""
        return {k for k, v in self.outputs.items() if isinstance(v, dict) and SECRET in v}

    def plain_outputs(self) -> dict[str, Any]:
        return {k: v for k, v in self.outputs.items() if k not in self.secret_names()}

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        return _id(args), {**args.inputs, **_computed(args)}

    def call(self, args: mocks.MockCallArgs) -> Any:
        self.asked.append(args.token)
        if args.token not in self.calls:
            raise AssertionError(f"unexpected call {args.token}")
        return self.calls[args.token](dict(args.args))


class Monitor(mocks.MockMonitor):
    """Sees each request whole: the stock monitor hands mocks no options and no stack outputs."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._world = world

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 a gRPC method's name
        if request.type != "pulumi:pulumi:Stack":
            self._record(request)
        with _thread_loop_closed():
            return super().RegisterResource(request)

    def Invoke(self, request: Any) -> Any:  # noqa: N802
        with _thread_loop_closed():
            return super().Invoke(request)

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802
        if "pulumi:pulumi:Stack" in request.urn:
            self._world.outputs = json_format.MessageToDict(request.outputs)
        return empty_pb2.Empty()

    def _record(self, request: Any) -> None:
        made = Made(
            type=request.type,
            name=request.name,
            inputs=json_format.MessageToDict(request.object),
            protect=request.protect,
            secret_outputs=tuple(request.additionalSecretOutputs),
            ignored=tuple(request.ignoreChanges),
            replacing=tuple(request.replaceOnChanges),
        )
        twins = [m for m in self._world.made if (m.type, m.name) == (made.type, made.name)]
        if twins:
            raise AssertionError(f"two resources {made.type} named {made.name}")
        self._world.made.append(made)


@contextmanager
def _thread_loop_closed() -> Iterator[None]:
    """The stock monitor makes each worker thread an event loop and leaves it open."""
    try:
        yield
    finally:
        if threading.current_thread() is not threading.main_thread():
            # Whether one was made or not, now there is one to close.
            _ensure_event_loop().close()
            asyncio.set_event_loop(None)


class _Warnings(logging.Handler):
    def __init__(self, kept: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append(record.getMessage())


def run_program(
    config: Mapping[str, str],
    *,
    stack: str,
    calls: Mapping[str, Call] | None = None,
    program: Callable[[], Any] | None = None,
) -> World:
    """Run `__main__.py` (or `program`) as the engine would; the error it ends with is raised.

    config: full keys, "mayfly:layer" or "gcp:project".
    """
    world = World(calls=calls or {})
    logger = logging.Logger("pulumi-test")
    logger.addHandler(_Warnings(world.warnings))
    settings.configure(
        mocks.MockSettings(
            monitor=Monitor(world),
            monitor_features=set(Monitor(world).GetDeploymentInfo(None).supportedFeatures),
            engine=mocks.MockEngine(logger),
            project="mayfly",
            stack=stack,
            organization="organization",
            dry_run=False,
            callbacks=None,
        )
    )
    settings.SETTINGS.outputs.clear()  # what a program that failed left behind
    settings.set_root_resource(None)  # type: ignore[arg-type]
    pulumi.runtime.set_all_config(dict(config))
    asyncio.run(run_in_stack(program or _main))
    return world


def _main() -> None:
    runpy.run_path(str(ROOT / "__main__.py"), run_name="__main__")


def _id(args: mocks.MockResourceArgs) -> str:
    inputs = args.inputs
    if args.typ.endswith(":Secret"):
        return f"projects/{PROJECT}/secrets/{inputs['secretId']}"
    return f"{args.typ.rpartition(':')[2].lower()}/{inputs.get('name', args.name)}"


def _computed(args: mocks.MockResourceArgs) -> dict[str, Any]:
    """What Google adds, as far as the program reads it."""
    inputs = args.inputs
    kind = args.typ.rpartition(":")[2]
    if kind == "Account":
        email = f"{inputs['accountId']}@{PROJECT}.iam.gserviceaccount.com"
        path = f"projects/{PROJECT}/serviceAccounts/{email}"
        return {"email": email, "member": f"serviceAccount:{email}", "name": path}
    if kind == "IAMCustomRole":
        return {"name": f"projects/{PROJECT}/roles/{inputs['roleId']}"}
    if kind == "Function":
        return {"serviceConfig": {**inputs["serviceConfig"], "uri": "https://reaper.run/"}}
    if kind == "Instance":
        return {"instanceId": "4711", "creationTimestamp": "2026-11-23T10:00:00.000-08:00"}
    if kind == "Command":
        return {"stdout": "s3cret" if "make" in args.name else "serving"}
    if kind in ("Network", "Subnetwork"):
        return {"selfLink": f"https://www.googleapis.com/compute/v1/{inputs['name']}"}
    return {}
