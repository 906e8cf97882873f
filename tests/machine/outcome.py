"""Runs a list of commands in one machine and gives back what each said."""

import re
from dataclasses import dataclass

LINE = re.compile(r"startup-script: (.*)$")


@dataclass(frozen=True)
class Outcome:
    """exit: status. text: stdout and stderr together."""

    exit: int
    text: str


def script(commands: list[str]) -> str:
    """A startup script that tells the commands' outputs apart."""
    parts = [
        f"echo '<<{number}'\n( {command}\n) </dev/null 2>&1; echo \">>{number}:$?\""
        for number, command in enumerate(commands)
    ]
    return "#!/bin/bash\n" + "\n".join(parts) + "\n"


def read(console: str, count: int) -> list[Outcome]:
    """The outcome of each command, in order."""
    lines = [match[1] for line in console.splitlines() if (match := LINE.search(line))]
    text = "\n".join(lines)
    found = []
    for number in range(count):
        match = re.search(rf"<<{number}\n(.*?)\n?>>{number}:(\d+)", text, re.DOTALL)
        assert match is not None, f"command {number} did not end:\n{text[-2000:]}"
        found.append(Outcome(int(match[2]), match[1]))
    return found
