"""A `gsutil` over folders, for stages: refuses what it does not know.

Told `gcloud` first, it is that: `storage cp`.

FAKE_BUCKETS: the folder of buckets. FAKE_CORRUPT: a file of "name count" lines; that many pulls of
that name are refused as the real ones refuse what arrives with another checksum than the bucket's.
"""

import json
import os
import shutil
import sys
from pathlib import Path

BUCKETS = Path(os.environ["FAKE_BUCKETS"])
GCLOUD = {
    "--read-paths-from-stdin": "-I",
    "--continue-on-error": "-c",
}


def local(address: str) -> Path:
    name = address.removeprefix("gs://").partition("#")[0]
    return BUCKETS / name if address.startswith("gs://") else Path(address)


def corrupted(name: str) -> bool:
    plan = Path(os.environ.get("FAKE_CORRUPT", "/nowhere"))
    lines = plan.read_text().split("\n") if plan.exists() else []
    for number, line in enumerate(lines):
        wanted, _, count = line.partition(" ")
        if wanted == name and int(count) > 0:
            lines[number] = f"{wanted} {int(count) - 1}"
            plan.write_text("\n".join(lines))
            return True
    return False


def refuse(program: str, to: Path) -> None:
    if program == "gcloud":
        said = f"Source hash AAAA== does not match destination hash BBBB== for object {to}_.gstmp."
        print(f"ERROR: {said}", file=sys.stderr)
    else:
        print(
            f"HashMismatchException: crc32c signature computed for local file (AAAA==) doesn't "
            f"match cloud-supplied digest (BBBB==). Local file ({to}_.gstmp) will be deleted.",
            file=sys.stderr,
        )


def copy(program: str, source: str, target: str, headers: dict[str, str]) -> bool:
    path = local(source)
    if not path.is_file():
        print(f"CommandException: No URLs matched: {source}", file=sys.stderr)
        return False
    to = local(target)
    if target.endswith("/") or to.is_dir():
        to = to / path.name
    if source.startswith("gs://") and corrupted(path.name):
        refuse(program, to)
        return False
    to.parent.mkdir(parents=True, exist_ok=True)
    if headers.get("x-goog-if-generation-match") == "0" and to.exists():
        said = "412 At least one of the pre-conditions you specified did not hold."
        print(f"PreconditionException: {said}", file=sys.stderr)
        return False
    shutil.copyfile(path, to)
    ours = "x-goog-meta-"
    metadata = {n.removeprefix(ours): v for n, v in headers.items() if n.startswith(ours)}
    if metadata:
        to.with_name(f"{to.name}.meta").write_text(json.dumps(metadata))
    return True


def main(program: str, words: list[str]) -> None:
    headers: dict[str, str] = {}
    if program == "gcloud":
        if words[:2] != ["storage", "cp"]:
            sys.exit("ERROR: (gcloud) only storage cp is known here")
        words = ["cp", *(GCLOUD.get(word, word) for word in words[2:])]
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
    go_on = "-c" in words
    if "-I" in words:
        sources, target = sys.stdin.read().splitlines(), words[-1]
    else:
        *sources, target = words
    failed = False
    for source in sources:
        failed |= not copy(program, source, target, headers)
        if failed and not go_on:
            break
    sys.exit(1 if failed else 0)


if sys.argv[1:2] == ["gcloud"]:
    main("gcloud", sys.argv[2:])
else:
    main("gsutil", sys.argv[1:])
