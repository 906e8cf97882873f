"""Pulumi's generated gRPC modules, without the SDK around them.

A plugin is started for every engine command; importing the `pulumi` package would cost it 0.7 s
each
time, for nothing that it uses.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

_PACKAGE = "pulumi_protocol"


def _package() -> None:
    if _PACKAGE in sys.modules:
        return
    spec = importlib.machinery.PathFinder.find_spec("pulumi")
    if spec is None or spec.origin is None:
        raise ImportError("the pulumi package is not installed beside this interpreter")
    package = types.ModuleType(_PACKAGE)
    package.__path__ = [str(Path(spec.origin).parent / "runtime" / "proto")]
    sys.modules[_PACKAGE] = package


def _load(name: str) -> Any:
    _package()
    return importlib.import_module(f"{_PACKAGE}.{name}")


plugin: Any = _load("plugin_pb2")
provider: Any = _load("provider_pb2")
provider_grpc: Any = _load("provider_pb2_grpc")
engine: Any = _load("engine_pb2")
engine_grpc: Any = _load("engine_pb2_grpc")
status: Any = _load("status_pb2")
