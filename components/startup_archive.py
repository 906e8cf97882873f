"""What runs on the VMs, packed so that the same files always give the same bytes."""

import base64
import gzip
import hashlib
import io
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pulumi

from mayfly.settings import NOTHING_DONE

ROOT = Path(__file__).resolve().parent.parent
BOOT = ROOT / "startup/boot.sh"
LIMIT_BYTES = 64 * 1024
"""Of the tar.gz; as text it is a third longer, and Google allows 256 KiB a value. What is larger
belongs in the bucket."""


@dataclass(frozen=True)
class StartupArchive:
    """text: base64 of the tar.gz. sha256: of the tar.gz, hexadecimal."""

    text: str
    sha256: str


_SERVING = (
    r"startup/((05|20|30|35|50|60|70)-|vllm_plugin/|(caches|check|haystack|key_guard|nccl_env)\.py)"
)
OTHERS_OWN = {
    "session": re.compile(r"startup/(seed|locks/|rank\.sh)"),
    "probe": re.compile(r"startup/(seed|locks/)|" + _SERVING),
    "seed": re.compile(
        r"startup/([0-9]{2}-|driver-packages|mayfly-vllm|vllm_plugin/|rank\.sh"
        r"|(caches|check|haystack|key_guard|nccl_env|pull|pull_large|pullers|serve)\.(py|sh))"
    ),
}
"""layer -> what only the other layer runs: it would fill the room that this one needs."""


def files(layer: str) -> dict[str, Path]:
    """Path in the archive -> file: what a layer's VM runs (boot.sh travels as itself)."""
    found = {
        str(path.relative_to(ROOT)): path
        for path in sorted((ROOT / "startup").rglob("*"))
        if path.is_file() and path != BOOT and "__pycache__" not in path.parts
    }
    mine = {name: path for name, path in found.items() if not OTHERS_OWN[layer].match(name)}
    ours = ("idle", "probe_rank") if layer == "probe" else ("idle",)
    return {**mine, **{f"mayfly/{name}.py": ROOT / f"mayfly/{name}.py" for name in ours}}


def build(found: Mapping[str, Path]) -> StartupArchive:
    """The archive of these `files`; RunError if it would not fit into metadata."""
    data = gzip.compress(_tar(found), mtime=0)
    if len(data) > LIMIT_BYTES:
        raise pulumi.RunError(
            f"The startup archive is {len(data)} bytes; {LIMIT_BYTES} may travel in metadata.\n"
            f"{NOTHING_DONE}\nMove what is large out of startup/ and into the bucket."
        )
    return StartupArchive(base64.b64encode(data).decode(), hashlib.sha256(data).hexdigest())


def _tar(found: Mapping[str, Path]) -> bytes:
    """Names sorted, no times, no owners; executable where the name says that it is a script."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, path in sorted(found.items()):
            data = path.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            entry.mode = 0o755 if name.endswith(".sh") else 0o644
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
