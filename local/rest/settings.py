"""What can be set on a running local cloud."""

from __future__ import annotations

from typing import Any

from local.rest import pattern

DEFAULTS: dict[str, Any] = {
    "driver": "580.159.04",
    "gib": False,
    "boot_delay_s": 0.0,
    "operation_s": 0.0,
    "scheduler_speedup": 1.0,
    "vllm_tokens_per_s": 120.0,
    "vllm_load_s": 1.0,
    "vllm_garbage_past": 0,
    "apt_lock_s": 0.0,
    "apt_fails": 0,
    "dpkg_interrupted": False,
    "driver_busy": False,
    "initramfs_driver": "",
    "fabricmanager": "same",
    "kernel_headers": True,
    "machines": True,
    "hub_mb": 256,
    "obtainability": "",
    "capacity": "",
    "fresh": False,
    "billing": True,
    "external_ips": True,
}
LEAST_HUB_MB = 16
"""Below this the hub's checkpoint has no room for its 64 shards; 0 is no hub."""


class SettingError(ValueError):
    """An unknown setting or a value of the wrong kind."""


def changed(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`settings` with `changes`; values may be text, as a command line gives them."""
    problems, out = [], dict(settings)
    for name, value in changes.items():
        if name not in DEFAULTS:
            problems.append(f"unknown setting {name!r}; there are {', '.join(sorted(DEFAULTS))}")
            continue
        try:
            out[name] = _parsed(DEFAULTS[name], value)
        except ValueError as error:
            problems.append(f"setting {name}: {error}")
    if 0 < out["hub_mb"] < LEAST_HUB_MB:
        problems.append(f"setting hub_mb: {out['hub_mb']} is neither 0 nor {LEAST_HUB_MB} or more")
    if changes.get("capacity"):
        try:
            pattern.load(str(changes["capacity"]))
        except pattern.PatternError as error:
            problems.append(f"setting capacity: {error}")
    if problems:
        raise SettingError("; ".join(problems))
    return out


def _parsed(default: Any, value: Any) -> Any:
    if isinstance(default, bool):
        words = {"true": True, "false": False}
        if str(value).lower() not in words:
            raise ValueError(f"{value!r} is neither true nor false")
        return words[str(value).lower()]
    if isinstance(default, int | float):
        if isinstance(value, bool) or float(value) < 0:
            raise ValueError(f"{value!r} is not a number of 0 or more")
        return type(default)(float(value))
    return str(value)
