"""A `gsutil` over folders, for stages: refuses what it does not know.

FAKE_BUCKETS: the folder of buckets. FAKE_CORRUPT: a file of "name count" lines; that many pulls of
that name arrive with another content of the same length.
"""

import json
import os
import shutil
import sys
from pathlib import Path

BUCKETS = Path(os.environ["FAKE_BUCKETS"])


def local(address: str) -> Path:
    return BUCKETS / address.removeprefix("gs://") if address.startswith("gs://") else Path(address)


def corrupt(path: Path) -> None:
    plan = Path(os.environ.get("FAKE_CORRUPT", "/nowhere"))
    lines = plan.read_text().split("\n") if plan.exists() else []
    for number, line in enumerate(lines):
        name, _, count = line.partition(" ")
        if name == path.name and int(count) > 0:
            path.write_bytes(b"?" * path.stat().st_size)
            lines[number] = f"{name} {int(count) - 1}"
    if lines:
        plan.write_text("\n".join(lines))


def copy(source: str, target: str, headers: dict[str, str]) -> None:
    path = local(source)
    if not path.is_file():
        sys.exit(f"CommandException: No URLs matched: {source}")
    to = local(target)
    if target.endswith("/") or to.is_dir():
        to = to / path.name
    to.parent.mkdir(parents=True, exist_ok=True)
    if headers.pop("x-goog-if-generation-match", None) == "0" and to.exists():
        sys.exit("PreconditionException: 412 At least one of the pre-conditions did not hold.")
    shutil.copyfile(path, to)
    metadata = {name.removeprefix("x-goog-meta-"): value for name, value in headers.items()}
    if metadata:
        to.with_name(f"{to.name}.meta").write_text(json.dumps(metadata))
    if source.startswith("gs://"):
        corrupt(to)


def main(words: list[str]) -> None:
    headers: dict[str, str] = {}
    while words and words[0].startswith("-"):
        flag = words.pop(0)
        if flag == "-o":
            words.pop(0)
        elif flag == "-h":
            name, _, value = words.pop(0).partition(":")
            headers[name] = value
        elif flag not in ("-q", "-m"):
            sys.exit(f"CommandException: unknown option {flag}")
    if words.pop(0) != "cp":
        sys.exit("CommandException: only cp is known here")
    if words[0] == "-I":
        sources, target = sys.stdin.read().splitlines(), words[1]
    else:
        *sources, target = words
    for source in sources:
        copy(source, target, dict(headers))


main(sys.argv[1:])
