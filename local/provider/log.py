"""The engine's own log."""

from __future__ import annotations

import grpc

from . import protocol
from .messages import Urn


class Log:
    """Lines into the engine's own log, under a resource's URN. Silent without an engine."""

    def __init__(self, address: str | None = None) -> None:
        self._stub = None
        if address:
            self._stub = protocol.engine_grpc.EngineStub(grpc.insecure_channel(address))

    def _send(self, severity: int, urn: Urn, message: str) -> None:
        if self._stub is None:
            return
        line = protocol.engine.LogRequest(severity=severity, urn=urn.text, message=message)
        try:
            self._stub.Log(line, timeout=5)
        except grpc.RpcError:  # the engine is leaving; the line is lost, the work is not
            return

    def info(self, urn: Urn, message: str) -> None:
        self._send(1, urn, message)

    def error(self, urn: Urn, message: str) -> None:
        self._send(3, urn, message)
