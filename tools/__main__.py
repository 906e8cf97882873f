"""`python3 -m tools setup | engine | browser`: bring what is needed; quick when all is there."""

import sys
from collections.abc import Callable
from pathlib import Path

from tools import chromium, environment, golang, gsutil, openssh
from tools import engine as pulumi_engine
from tools.say import SetupError, say
from tools.store import Slot

# name, version, package, how long a cold build takes on two cores
BUILT = (
    ("fake-gcs-server", "v1.55.1", "github.com/fsouza/fake-gcs-server", "built in some 1 min"),
    ("actionlint", "v1.7.12", "github.com/rhysd/actionlint/cmd/actionlint", "built in some 20 s"),
)
OLDEST = (3, 11)


def setup() -> None:
    """`.venv` with the locked packages and every tool."""
    environment.make()
    engine()


def engine() -> None:
    """The tools, linked into `.venv/bin`."""
    found = pulumi_engine.find()
    environment.link("pulumi", found)
    environment.language_host(found)
    for name, version, package, duration in BUILT:
        program = Slot(name, version).fill(_builder(name, package), duration)
        environment.link(name, program)
    environment.link("gsutil", gsutil.find())
    environment.link("sshd", openssh.find())


def browser() -> None:
    """What the page's tests look at it with; nothing else needs it."""
    chromium.find()


def _builder(name: str, package: str) -> Callable[[Path], None]:
    return lambda folder: golang.build(name, package, folder, ["-ldflags", "-s -w"])


def main(words: list[str]) -> int:
    """0 done, 1 failed, 2 not a verb of ours."""
    verbs = {"setup": setup, "engine": engine, "browser": browser}
    if len(words) != 1 or words[0] not in verbs:
        print(f"usage: python3 -m tools {' | '.join(verbs)}", file=sys.stderr)
        return 2
    if sys.version_info < OLDEST:
        have = ".".join(map(str, sys.version_info[:3]))
        print(f"mayfly needs Python 3.11 or newer; this is {have}.", file=sys.stderr)
        return 1
    try:
        verbs[words[0]]()
    except SetupError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted; what was finished stays, run it again for the rest")
        return 130
    return 0


sys.exit(main(sys.argv[1:]))
