"""Become vLLM: what unit mayfly-vllm starts, with the settings in its environment.

On a VM that measures one rank: the interpreter that has vLLM, with the measurement.
"""

import json
import os
from collections.abc import Mapping

from startup import paths

ARRIVING = "mayfly"
"""The load format of startup/vllm_plugin."""
PLAIN = "safetensors"
"""vLLM's own, which needs nothing but vLLM."""


def flags(settings: Mapping[str, str]) -> list[str]:
    """The profile's; others where /run/mayfly/serve-flags has them, as after a failed check."""
    text = paths.read(paths.run_dir() / "serve-flags") or settings["MAYFLY_SERVE_FLAGS"]
    found: list[str] = json.loads(text)
    return found


def load_format(settings: Mapping[str, str]) -> str:
    """Shards are handed on as they come, until all are there: then nobody needs to wait.

    Where that start has died, /run/mayfly/plain-loader is there: the profile's loader, which it
    used, may be why.
    """
    if paths.read(paths.root() / "mnt/mayfly/weights/.complete") != settings["MAYFLY_WEIGHTS_URI"]:
        return ARRIVING
    if (paths.run_dir() / "plain-loader").exists():
        return PLAIN
    return settings["MAYFLY_LOAD_FORMAT"]


def argv(settings: Mapping[str, str]) -> list[str]:
    """vLLM's command line: ours first, so that a profile's serve_flags can refine, then theirs."""
    programs = paths.root() / "opt/mayfly-engine/env/bin"
    if settings.get("MAYFLY_LAYER") == "probe":
        case = paths.read(paths.run_dir() / "case.json")
        return [str(programs / "python"), "-m", "mayfly.probe_rank", case]
    port = settings["MAYFLY_PORT"]
    origins = [f"http://localhost:{port}", f"http://127.0.0.1:{port}"]
    return [
        str(programs / "vllm"),
        "serve",
        str(paths.root() / "mnt/mayfly/weights"),
        *("--host", "127.0.0.1", "--port", port),
        *("--served-model-name", settings["MAYFLY_SERVED_MODEL"]),
        *("--middleware", "startup.key_guard.KeyGuard"),
        "--disable-fastapi-docs",
        *("--allowed-origins", json.dumps(origins)),
        *("--load-format", load_format(settings)),
        *flags(settings),
    ]


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """vLLM finds the plugin only where it is used: a broken one must not end a plain start too."""
    more = {"VLLM_ENGINE_READY_TIMEOUT_S": str(int(float(settings["MAYFLY_START_S"])))}
    if settings.get("MAYFLY_LAYER") != "probe" and load_format(settings) == ARRIVING:
        code = paths.root() / "opt/mayfly"
        more["PYTHONPATH"] = f"{code}:{code}/startup/vllm_plugin/metadata"
    return {**settings, **more}


if __name__ == "__main__":
    command = argv(os.environ)
    os.execve(command[0], command, environment(os.environ))
