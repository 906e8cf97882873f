"""Bytes that a parameter takes, by the checkpoint's quantisation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mayfly.parts import ShapeError

BF16 = 2.0


class Width:
    """Bytes per parameter of a module, by the checkpoint's quantisation."""

    def __init__(self, quantization: Mapping[str, Any]) -> None:
        self._quantized = _quantized_bytes(quantization)
        self._ignored: list[str] = [
            *(quantization.get("ignore") or []),
            *(quantization.get("exclude_modules") or []),
            *(quantization.get("modules_to_not_convert") or []),
        ]

    def of(self, module: str) -> float:
        if any(_matches(pattern, module) for pattern in self._ignored):
            return BF16
        return self._quantized


def _matches(pattern: str, module: str) -> bool:
    if pattern.startswith("re:"):
        return re.match(pattern[3:], module) is not None
    regex = re.escape(pattern).replace(r"\*", ".*")
    return re.fullmatch(rf"(.*\.)?{regex}(\..*)?", module) is not None


def _quantized_bytes(quantization: Mapping[str, Any]) -> float:
    """Bytes a parameter takes where it is quantised, scales included."""
    method = str(quantization.get("quant_method", "")).lower()
    if not quantization:
        return BF16
    if method == "fp8":
        return 1 + 4 / (128 * 128)
    if method == "mxfp4":
        return 0.5 + 1 / 32
    if method in ("modelopt", "modelopt_fp4", "nvfp4"):
        return 0.5 + 1 / 16 if "4" in str(quantization.get("quant_algo", "FP4")) else 1.0
    if method in ("awq", "gptq"):
        return float(quantization["bits"]) / 8 + 2.5 / float(quantization.get("group_size", 128))
    if method == "compressed-tensors":
        return _compressed(quantization)
    raise ShapeError(f"quant_method {method!r}: not known to the planner")


def _compressed(quantization: Mapping[str, Any]) -> float:
    weights = next(iter(quantization["config_groups"].values()))["weights"]
    scale_bytes = 1.0 if weights.get("type") == "float" and weights["num_bits"] == 4 else BF16
    group = weights.get("group_size")
    scales = scale_bytes / group if isinstance(group, int) and group > 0 else 0.0
    return float(weights["num_bits"]) / 8 + scales
