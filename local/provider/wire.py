"""A Pulumi provider plugin over gRPC: requests in, plain Python values to the provider, answers
out."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from google.protobuf import empty_pb2

from . import protocol
from .log import Log
from .messages import Checked, Difference, PartlyDoneError, RefusedError, Request, Urn
from .values import Object, from_struct, to_struct

MAX_MESSAGE_BYTES = 400 * 1024 * 1024
WORKERS = 64  # the engine runs 16 steps at once; each holds a thread while it waits
KINDS = {
    "add": 0,
    "add-replace": 1,
    "delete": 2,
    "delete-replace": 3,
    "update": 4,
    "update-replace": 5,
}


class Provider(Protocol):
    """What a stand-in implements. Any `RefusedError` becomes the call's error."""

    def configure_inputs(self, inputs: Object) -> Checked: ...
    def configure(self, inputs: Object) -> None: ...
    def check(self, request: Request) -> Checked: ...
    def diff(self, request: Request) -> Difference: ...
    def create(self, request: Request) -> tuple[str, Object]: ...
    def read(self, request: Request) -> tuple[str, Object, Object]: ...
    def update(self, request: Request) -> Object: ...
    def delete(self, request: Request) -> None: ...
    def invoke(self, token: str, arguments: Object) -> Object: ...
    def cancel(self) -> None: ...


@dataclass(frozen=True)
class _Status(grpc.Status):  # type: ignore[misc]
    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, bytes], ...]


def _unfinished(error: PartlyDoneError) -> _Status:
    detail = protocol.provider.ErrorResourceInitFailed(
        id=error.resource_id,
        properties=to_struct(error.properties),
        inputs=to_struct(error.inputs),
        reasons=[str(error)],
    )
    packed = protocol.status.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=str(error))
    packed.details.add().Pack(detail)
    metadata = (("grpc-status-details-bin", packed.SerializeToString()),)
    return _Status(grpc.StatusCode.UNKNOWN, str(error), metadata)


@contextmanager
def _errors(context: grpc.ServicerContext) -> Iterator[None]:
    try:
        yield
    except RefusedError as error:
        context.abort(grpc.StatusCode.UNKNOWN, str(error))
    except PartlyDoneError as error:
        context.abort_with_status(_unfinished(error))


class Servicer(protocol.provider_grpc.ResourceProviderServicer):  # type: ignore[misc]
    """Pulumi's ResourceProvider service before one `Provider`."""

    def __init__(self, provider: Provider, version: str) -> None:
        self._provider, self._version = provider, version

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return protocol.plugin.PluginInfo(version=self._version)

    def CheckConfig(self, request: Any, context: Any) -> Any:
        with _errors(context):
            return _checked(self._provider.configure_inputs(from_struct(request.news)))

    def DiffConfig(self, request: Any, context: Any) -> Any:
        same = from_struct(request.olds) == from_struct(request.news)
        response = protocol.provider.DiffResponse
        return response(changes=response.DIFF_NONE if same else response.DIFF_SOME)

    def Configure(self, request: Any, context: Any) -> Any:
        with _errors(context):
            self._provider.configure(from_struct(request.args))
        # Without acceptSecrets the engine itself keeps secret what was secret among the inputs.
        return protocol.provider.ConfigureResponse(supportsPreview=True)

    def Invoke(self, request: Any, context: Any) -> Any:
        with _errors(context):
            result = self._provider.invoke(request.tok, from_struct(request.args))
        response = protocol.provider.InvokeResponse()
        getattr(response, "return").CopyFrom(to_struct(result))
        return response

    def Check(self, request: Any, context: Any) -> Any:
        with _errors(context):
            return _checked(
                self._provider.check(
                    Request(
                        urn=Urn(request.urn),
                        old_inputs=from_struct(request.olds),
                        inputs=from_struct(request.news),
                        seed=request.randomSeed,
                    )
                )
            )

    def Diff(self, request: Any, context: Any) -> Any:
        with _errors(context):
            return _difference(self._provider.diff(_change(request)))

    def Create(self, request: Any, context: Any) -> Any:
        with _errors(context):
            resource_id, properties = self._provider.create(
                Request(
                    urn=Urn(request.urn),
                    inputs=from_struct(request.properties),
                    preview=request.preview,
                    timeout_s=request.timeout,
                )
            )
        return protocol.provider.CreateResponse(id=resource_id, properties=to_struct(properties))

    def Read(self, request: Any, context: Any) -> Any:
        with _errors(context):
            resource_id, properties, inputs = self._provider.read(
                Request(
                    urn=Urn(request.urn),
                    resource_id=request.id,
                    old=from_struct(request.properties),
                    old_inputs=from_struct(request.inputs),
                )
            )
        return protocol.provider.ReadResponse(
            id=resource_id, properties=to_struct(properties), inputs=to_struct(inputs)
        )

    def Update(self, request: Any, context: Any) -> Any:
        with _errors(context):
            properties = self._provider.update(_change(request))
        return protocol.provider.UpdateResponse(properties=to_struct(properties))

    def Delete(self, request: Any, context: Any) -> Any:
        with _errors(context):
            self._provider.delete(
                Request(
                    urn=Urn(request.urn),
                    resource_id=request.id,
                    old=from_struct(request.properties),
                    timeout_s=request.timeout,
                )
            )
        return empty_pb2.Empty()

    def Cancel(self, request: Any, context: Any) -> Any:
        self._provider.cancel()
        return empty_pb2.Empty()


def _change(request: Any) -> Request:
    return Request(
        urn=Urn(request.urn),
        resource_id=request.id,
        old=from_struct(request.olds),
        old_inputs=from_struct(request.old_inputs),
        inputs=from_struct(request.news),
        ignore=tuple(request.ignoreChanges),
        preview=getattr(request, "preview", False),
        timeout_s=getattr(request, "timeout", 0),
    )


def _checked(checked: Checked) -> Any:
    failures = [protocol.provider.CheckFailure(reason=reason) for reason in checked.failures]
    return protocol.provider.CheckResponse(inputs=to_struct(checked.inputs), failures=failures)


def _difference(difference: Difference) -> Any:
    response = protocol.provider.DiffResponse
    detailed = {
        path: protocol.provider.PropertyDiff(kind=KINDS[kind])
        for path, kind in difference.changes.items()
    }
    return response(
        changes=response.DIFF_SOME if difference.changes else response.DIFF_NONE,
        replaces=difference.replaces,
        diffs=sorted({path.split(".")[0].split("[")[0] for path in difference.changes}),
        deleteBeforeReplace=difference.delete_before_replace,
        detailedDiff=detailed,
        hasDetailedDiff=True,
    )


def serve(arguments: list[str], version: str, make: Callable[[Log], Provider]) -> None:
    """Run as a plugin: print the port, answer until the engine ends us (SIGINT, SIGTERM or its
    death)."""
    address = next((word for word in arguments if not word.startswith("-")), None)
    provider = make(Log(address))
    options = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ]
    server = grpc.server(ThreadPoolExecutor(WORKERS), options=options)
    servicer = Servicer(provider, version)
    protocol.provider_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    engine = os.getppid()
    while not done.wait(timeout=2):
        if os.getppid() != engine:  # killed: nobody will send the signal
            break
    provider.cancel()
    server.stop(0.5).wait()
    sys.stdout.flush()
