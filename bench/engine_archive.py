"""How large the engine's archive is and how long a node takes to unpack it, by format.

    python bench/engine_archive.py ENV --out DIR

ENV: an environment installed from startup/locks/vllm-*.lock and byte-compiled, for instance by
`uv pip install --python-version 3.12 --python-platform x86_64-manylinux_2_39 --target ENV
--require-hashes -r LOCK`. Needs twice its size on this disk. DIR/results.json: bytes and files; of
the archives as startup/seed_pack.py makes them, the bytes of each and the CPU seconds to check
(sha256) and unpack it; for comparison, the whole as one archive, by format.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from startup import seed_pack  # noqa: E402

FORMATS = {
    "gzip-1": ("env.tar.gz", "gzip -1", "gzip -d"),
    "zstd-3": ("env.tar.zst", "zstd -q -3 -T0", "zstd -q -d"),
    "zstd-9": ("env.tar.zst", "zstd -q -9 -T0", "zstd -q -d"),
    "lz4-1": ("env.tar.lz4", "lz4 -q -1", "lz4 -q -d"),
}


def timed(command: list[str]) -> dict[str, float]:
    """Wall seconds and CPU seconds of a command and all it started."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall_s = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": round(wall_s, 1), "cpu_s": round(cpu_s, 1)}


def measure(env: Path, scratch: Path, name: str) -> dict[str, Any]:
    file, pack, unpack = FORMATS[name]
    archive, folder = scratch / file, scratch / "unpacked"
    found: dict[str, Any] = {"format": name}
    found["pack"] = timed(["tar", "-C", str(env.parent), "-I", pack, "-cf", str(archive), env.name])
    found["packed_bytes"] = archive.stat().st_size
    found["sha256"] = timed(["sha256sum", str(archive)])
    found["decompress"] = timed(["sh", "-c", f"{unpack} < {archive}"])
    folder.mkdir()
    found["unpack"] = timed(
        ["tar", "-I", unpack, "-xf", str(archive), "-C", str(folder), "--no-same-owner"]
    )
    shutil.rmtree(folder)
    archive.unlink()
    return found


def measure_parts(env: Path, scratch: Path) -> list[dict[str, Any]]:
    """One after the other, so that the CPU seconds are one archive's own."""
    seed_pack.pack(env, scratch / "parts")
    folder = scratch / "unpacked"
    folder.mkdir()
    rows = []
    for archive in sorted((scratch / "parts").iterdir()):
        unpack = ["tar", "-xzf", str(archive), "-C", str(folder), "--no-same-owner"]
        row = {"name": archive.name, "bytes": archive.stat().st_size}
        rows.append(row | {"sha256": timed(["sha256sum", str(archive)]), "unpack": timed(unpack)})
    shutil.rmtree(folder)
    shutil.rmtree(scratch / "parts")
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("env", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    scratch = options.env.resolve().parent / "scratch"
    scratch.mkdir()
    files = [path for path in options.env.rglob("*") if path.is_file()]
    parts = measure_parts(options.env.resolve(), scratch)
    print(json.dumps(parts), flush=True)
    rows = []
    for name in FORMATS:
        rows.append(measure(options.env.resolve(), scratch, name))
        print(json.dumps(rows[-1]), flush=True)
    scratch.rmdir()
    result = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cores": os.cpu_count(),
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
        "parts": parts,
        "one_archive": rows,
    }
    (options.out / "results.json").write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
