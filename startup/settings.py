"""Turn the `mayfly-settings` metadata into lines for /run/mayfly/env, or say what is wrong with it.

Each key `idle_s` becomes MAYFLY_IDLE_S='...', for bash's `source` and systemd's EnvironmentFile=.
Lists stay JSON. The endpoint variables that the boot was given follow, so that units have them too.
"""

import json
import os
import re
import shlex
import sys
from collections.abc import Mapping

BOTH = [
    "layer",
    "session",
    "profile",
    "project",
    "zone",
    "weights_bucket",
    "cache_bucket",
    "state_bucket",
    "max_life_s",
    "idle_s",
    "start_s",
    "failed_s",
    "heartbeat_s",
    "model",
    "revision",
    "weights_uri",
    "engine",
    "engine_uri",
    "driver_branch",
    "driver_uri",
]
LAYERS = {
    "session": [
        *(*BOTH, "machine", "served_model", "port", "mode", "serve_flags", "safe_flags"),
        *("load_format", "kernel_caches", "api_key_secret"),
    ],
    "probe": [*BOTH, "machine", "mode", "probe", "case", "gpu_count"],
    "seed": [*BOTH, "hf_token_secret", "disk_gb", "parallel", "engine_lock"],
}
SECONDS = ("max_life_s", "idle_s", "start_s", "failed_s", "heartbeat_s")
ENDPOINTS = re.compile(r"GCE_METADATA_HOST|GOOGLE_[A-Z_]+_CUSTOM_ENDPOINT|HF_ENDPOINT")


def problems(settings: object) -> list[str]:
    """Everything that is wrong, one plain line each; empty when the settings can be used."""
    if not isinstance(settings, dict):
        return ["mayfly-settings is not a JSON object"]
    layer = settings.get("layer")
    if layer not in LAYERS:
        return [f"layer is {layer!r}; it must be one of: {', '.join(LAYERS)}"]
    found = [f"{key} is missing" for key in LAYERS[layer] if key not in settings]
    for key, value in settings.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]*", key):
            found.append(f"{key!r} cannot be a setting's name")
        elif any(ord(c) < 32 for c in text(value)):
            found.append(f"{key} holds a line break or a control character")
    for key in SECONDS:
        value = settings.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            found.append(f"{key} is {value!r}; it must be a number above 0")
    return found


def text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def lines(settings: Mapping[str, object], environment: Mapping[str, str]) -> list[str]:
    """The file's lines: the settings in their order, then the endpoint variables by name."""
    pairs = [(f"MAYFLY_{key.upper()}", text(value)) for key, value in settings.items()]
    pairs += sorted((k, v) for k, v in environment.items() if ENDPOINTS.fullmatch(k))
    return [f"{name}={shlex.quote(value)}" for name, value in pairs]


def main() -> int:
    try:
        settings = json.load(sys.stdin)
    except ValueError as error:
        print(f"mayfly-settings is not JSON: {error}; run: pulumi up", file=sys.stderr)
        return 1
    wrong = problems(settings)
    if wrong:
        print(f"mayfly-settings cannot be used: {'; '.join(wrong)}", file=sys.stderr)
        return 1
    print("\n".join(lines(settings, os.environ)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
