"""journalctl."""

import json
import sys
import time
from typing import Any

from journal import JOURNAL, short
from stub import fail

FLAGS = {"--no-pager": "", "-q": "", "--quiet": "", "-x": "", "-e": "", "-f": "follow",
         "--follow": "follow", "-b": "boot", "--boot": "boot", "-r": "reverse",
         "--reverse": "reverse", "-xe": ""}  # fmt: skip
VALUED = {"-u": "unit", "--unit": "unit", "-n": "lines", "--lines": "lines",
          "-o": "output", "--output": "output", "-t": "identifier",
          "--identifier": "identifier", "-S": "since", "--since": "since"}  # fmt: skip
FOLLOW_LIMIT_S = 600.0  # nothing here may wait for ever
OUTPUTS = ("short", "short-iso", "cat", "json")


def main(name: str, argv: list[str]) -> int:
    options: dict[str, Any] = {"unit": []}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        key, equals, value = word.partition("=")
        if word in FLAGS:
            options[FLAGS[word]] = True
        elif key in VALUED and (equals or rest):
            store(options, VALUED[key], value if equals else rest.pop(0))
        elif word[:2] in VALUED and len(word) > 2 and not word.startswith("--"):
            store(options, VALUED[word[:2]], word[2:])
        else:
            return fail(f"journalctl: unrecognized option '{word}'")
    if options.get("output", "short") not in OUTPUTS:
        return fail(f"Unknown output format '{options['output']}'.")
    since = options.get("since", "@0")
    if not (since.startswith("@") and since[1:].isdigit()):
        return fail(f"Failed to parse timestamp: {since}")
    lines = options.get("lines", "10" if options.get("follow") else "all")
    if lines != "all" and not lines.isdigit():
        return fail(f"Failed to parse lines '{lines}'")
    show(options, lines)
    return 0


def store(options: dict[str, Any], key: str, value: str) -> None:
    if key == "unit":
        options["unit"].append(value if "." in value else f"{value}.service")
    else:
        options[key] = value


def show(options: dict[str, Any], lines: str) -> None:
    entries = matching(options)
    chosen = entries if lines == "all" else entries[len(entries) - min(len(entries), int(lines)) :]
    if options.get("reverse"):
        chosen.reverse()
    for entry in chosen:
        print(render(entry, options))
    if not entries:
        print("-- No entries --")
    if options.get("follow"):
        follow(options, len(entries))


def follow(options: dict[str, Any], seen: int) -> None:
    deadline = time.monotonic() + FOLLOW_LIMIT_S
    while time.monotonic() < deadline:
        sys.stdout.flush()
        time.sleep(0.2)
        entries = matching(options)
        for entry in entries[seen:]:
            print(render(entry, options))
        seen = len(entries)


def matching(options: dict[str, Any]) -> list[dict[str, Any]]:
    if not JOURNAL.exists():
        return []
    entries = [json.loads(line) for line in JOURNAL.read_text().splitlines()]
    if options.get("boot") and entries:
        entries = [entry for entry in entries if entry["boot"] == entries[-1]["boot"]]
    after = float(options.get("since", "@0")[1:])
    entries = [entry for entry in entries if entry["t"] >= after]
    if options["unit"]:
        entries = [entry for entry in entries if entry["unit"] in options["unit"]]
    if "identifier" in options:
        entries = [entry for entry in entries if entry["id"] == options["identifier"]]
    return entries


def render(entry: dict[str, Any], options: dict[str, Any]) -> str:
    kind = options.get("output", "short")
    if kind == "cat":
        return str(entry["text"])
    if kind == "json":
        return json.dumps(
            {
                "__REALTIME_TIMESTAMP": str(int(entry["t"] * 1e6)),
                "_SYSTEMD_UNIT": entry["unit"],
                "SYSLOG_IDENTIFIER": entry["id"],
                "_PID": str(entry["pid"]),
                "MESSAGE": entry["text"],
            }
        )
    if kind == "short-iso":
        moment = time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime(entry["t"]))
        return f"{moment} {entry['id']}[{entry['pid']}]: {entry['text']}"
    return short(entry)
