"""Become vLLM: what unit mayfly-vllm starts, with the settings in its environment."""

import json
import os
from collections.abc import Mapping

from startup import paths


def argv(settings: Mapping[str, str]) -> list[str]:
    """vLLM's command line: ours first, so that a profile's serve_flags can refine, then theirs."""
    port = settings["MAYFLY_PORT"]
    origins = [f"http://localhost:{port}", f"http://127.0.0.1:{port}"]
    return [
        str(paths.root() / "opt/mayfly-engine/env/bin/vllm"),
        "serve",
        str(paths.root() / "mnt/mayfly/weights"),
        *("--host", "127.0.0.1", "--port", port),
        *("--served-model-name", settings["MAYFLY_SERVED_MODEL"]),
        *("--middleware", "startup.key_guard.KeyGuard"),
        "--disable-fastapi-docs",
        *("--allowed-origins", json.dumps(origins)),
        *json.loads(settings["MAYFLY_SERVE_FLAGS"]),
    ]


if __name__ == "__main__":
    command = argv(os.environ)
    os.execv(command[0], command)
