"""A command line of the documentation, held against the program that it names.

Nothing is run: mayfly's own commands are parsed by its own parser, Pulumi's by what its help says.
"""

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from functools import cache

import typer

from mayfly.cli import app
from tests.conftest import ROOT
from tests.provider.engine import find_engine

FLAG = re.compile(r"--?[a-z][a-z-]*")
VERB = re.compile(r"[a-z][a-z-]+")
SEPARATOR = re.compile(r"\s*(?:&&|\|\||[;|]|,? then )\s*")
ASSIGNMENT = re.compile(r"^(?:\w+=\S*\s+)+")
REDIRECTION = re.compile(r"\s*[<>]\s*\S+")
HELP_TIMEOUT_S = 60


def commands(script: str) -> list[str]:
    """Those of our programs that a piece of shell runs, each as it would be typed."""
    found = []
    for line in script.replace("\\\n", " ").splitlines():
        for part in SEPARATOR.split(without_comment(line)):
            command = REDIRECTION.sub("", ASSIGNMENT.sub("", part.strip().removeprefix("$ ")))
            if command.partition(" ")[0] in CHECKS:
                found.append(" ".join(command.split()))
    return found


def without_comment(line: str) -> str:
    return re.sub(r"(^|\s)#.*", "", line)


def problem(command: str) -> str:
    """What is wrong with it; "" for nothing."""
    program, *words = shlex.split(command)
    return CHECKS[program](words)


def mayfly(words: list[str]) -> str:
    """By mayfly's own parser: verbs, options, values, how many arguments."""
    command, parent = typer.main.get_command(app), None
    while verbs := getattr(command, "commands", None):
        verb = words[0] if words else ""
        if verb not in (*verbs, "--help") and hasattr(command, "default"):
            verb, words = command.default, [command.default, *words]
        if verb == "--help" or verb in [o for param in command.params for o in param.opts]:
            return ""
        if verb not in verbs:
            return f"no command {verb}" if verb else "Missing command"
        parent = typer.Context(command, parent=parent)
        command, words = verbs[verb], words[1:]
    try:
        command.make_context(command.name, words, parent=parent)
    except typer.Exit:
        return ""  # --help
    except typer.TyperException as error:
        return str(error)
    return ""


def make(words: list[str]) -> str:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    wrong = [word for word in words if "=" not in word and word not in targets]
    return f"no target {wrong[0]}" if wrong else ""


def python(words: list[str]) -> str:
    """The file is there, and it, or what it is made of, knows the flags."""
    if words[:1] == ["-m"]:
        module = ROOT / words[1].replace(".", "/")
        sources = [module.with_suffix(".py"), *module.glob("*.py")]
        words = words[2:]
    else:
        sources, words = [ROOT / words[0]], words[1:]
    text = "".join(source.read_text() for source in sources if source.is_file())
    if not text:
        return f"there is no {sources[0].relative_to(ROOT)}"
    wrong = [word for word in words if word.startswith("--") and f'"{word}"' not in text]
    return f"it knows no {wrong[0]}" if wrong else ""


def pulumi(words: list[str]) -> str:
    """By its help: each verb has one of its own, and each flag is in it."""
    verbs: tuple[str, ...] = ()
    for word in words:
        deeper = told_by_help((*verbs, word)) if VERB.fullmatch(word) else ""
        if deeper in ("", told_by_help(verbs)):
            break
        verbs = (*verbs, word)
    told = told_by_help(verbs)
    if f"pulumi {' '.join(verbs)}".strip() + " [command]" in told and words[len(verbs) :]:
        return f"no command {words[len(verbs)]}"
    flags = [word.partition("=")[0] for word in words if FLAG.match(word)]
    wrong = [flag for flag in flags if flag not in FLAG.findall(told)]
    return f"pulumi {' '.join(verbs)} knows no {wrong[0]}" if wrong else ""


@cache
def told_by_help(verbs: tuple[str, ...]) -> str:
    done = subprocess.run(
        [str(find_engine()), *verbs, "--help"],
        capture_output=True,
        text=True,
        check=False,
        timeout=HELP_TIMEOUT_S,
        env=os.environ | {"PULUMI_SKIP_UPDATE_CHECK": "true"},
    )
    return done.stdout


CHECKS: dict[str, Callable[[list[str]], str]] = {
    "mayfly": mayfly,
    "make": make,
    "python": python,
    "pulumi": pulumi,
}
