"""The `mayfly:` keys of a stack, and how each one's text is read.

`KEYS` and the `config:` block of Pulumi.yaml say the same; a test holds them together.
"""

import datetime
import json
import math
from collections.abc import Mapping, Sequence

from mayfly.problems import Problem, one_of

DEFAULT_PROFILE, DEFAULT_REGION = "kimi-k2.5", "us-central1"

KEYS: Mapping[str, str | list[str]] = {
    "layer": "session",
    "profile": DEFAULT_PROFILE,
    "machine": "",
    "zone": "",
    "regions": [DEFAULT_REGION],
    "provisioning": "",
    "mode": "fast",
    "probe": "",
    "image": "",
    "idleMinutes": "20",
    "startMinutes": "30",
    "failedMinutes": "5",
    "heartbeatMinutes": "5",
    "maxHours": "4",
    "budgetUsd": "",
    "maxRunSeconds": "",
    "hourlyUsd": "",
    "rateSource": "",
    "rateDate": "",
    "localPort": "8000",
    "members": [],
    "nodeInternet": "false",
    "kernelCaches": "true",
    "allowReplace": "false",
    "foundationStack": "foundation",
    "stateBucket": "",
    "stateKey": "",
    "hfTokenSecret": "",
    "startedBy": "",
}
"""Each key with its default, as Pulumi.yaml has it; "" and [] mean that none is set."""

SESSION_NAME = "session name"
RATE_KEYS = ("mayfly:hourlyUsd", "mayfly:rateSource", "mayfly:rateDate")


class Config:
    """Takes values out of the raw texts and notes what is wrong; `close` notes unknown keys.

    A wrong value reads as a harmless one ("" or 0): the caller raises once all is read.
    """

    def __init__(self, raw: Mapping[str, str]) -> None:
        self._raw = raw
        self.problems: list[Problem] = []

    def note(self, key: str, value: object, right: str) -> None:
        self.note_other(f"mayfly:{key}", value, right)

    def note_other(self, what: str, value: object, right: str) -> None:
        self.problems.append(Problem(what, value, right))

    def shown(self, key: str) -> str:
        """The value as the user or the default has it."""
        default = KEYS[key]
        text = self._raw.get(key)
        return text if text is not None else str(default)

    def text(self, key: str) -> str:
        return self.shown(key).strip()

    def required(self, key: str) -> str:
        text = self.text(key)
        if not text:
            self.note(key, None, "It is written at launch and must be there.")
        return text

    def choice(self, key: str, valid: tuple[str, ...], default: str = "") -> str:
        """One of `valid`; "" after a problem."""
        text = self.text(key) or default
        if text in valid:
            return text
        self.note(key, text, one_of(valid))
        return ""

    def texts(self, key: str, *, least: int = 0) -> tuple[str, ...]:
        """A list of texts, which Pulumi hands over as JSON; `least` of them or more."""
        default = KEYS[key]
        raw = self._raw.get(key)
        value = default if raw is None else _json(raw)
        if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
            self.note(key, raw, "It must be a list of texts.")
            return ()
        if len(value) < least:
            self.note(key, raw, f"It must name at least {least}.")
        return tuple(dict.fromkeys(value))

    def positive(self, key: str) -> float:
        """A number above 0; fractions are welcome."""
        value = self.positive_or_none(key)
        if value is None:
            self.note(key, None, "It must be a number above 0.")
            return 0.0
        return value

    def positive_or_none(self, key: str) -> float | None:
        """As `positive`, or None where nothing is set."""
        text = self.text(key)
        if not text:
            return None
        value = _number(text)
        if value is None or value <= 0:
            self.note(key, text, "It must be a number above 0 (fractions are welcome).")
            return 0.0
        return value

    def port(self, key: str) -> int:
        text = self.text(key)
        if text.isascii() and text.isdigit() and 1 <= int(text) <= 65535:
            return int(text)
        self.note(key, text, "It must be a port, 1 to 65535.")
        return 0

    def flag(self, key: str) -> bool:
        text = self.text(key)
        if text not in ("true", "false"):
            self.note(key, text, one_of(("true", "false")))
        return text == "true"

    def date(self, key: str) -> str:
        """A day, YYYY-MM-DD."""
        text = self.required(key)
        try:
            if text:
                datetime.date.fromisoformat(text)
        except ValueError:
            self.note(key, text, "It must be a day, YYYY-MM-DD.")
        return text

    def close(self) -> None:
        for key in self._raw:
            if key not in KEYS:
                self.note(key, self._raw[key], f"No such key. {one_of(KEYS)}")


SHIPPED_SESSION = "dev"
"""The session stack whose file is in git, complete."""


def remedy(problems: Sequence[Problem], stack: str) -> str:
    """One command that mends the first problem, as far as a command can."""
    first = problems[0].key
    if first == SESSION_NAME:
        return f"pulumi stack rename NAME --stack {stack}"
    if first.startswith("profiles/"):
        return f"edit {first.partition(':')[0]}"
    if first == "gcp:project":
        return f"pulumi config set gcp:project PROJECT --stack {stack}"
    unset = {problem.key for problem in problems if problem.value is None}
    if first in RATE_KEYS and unset.issuperset(RATE_KEYS) and stack != SHIPPED_SESSION:
        # A stack of another name than those in git: nothing has written a configuration for it.
        return f"pulumi config cp --stack {SHIPPED_SESSION} --dest {stack}"
    if first in RATE_KEYS and problems[0].value is None:
        return (
            f"pulumi config set {first} VALUE --stack {stack}   (all three: {', '.join(RATE_KEYS)})"
        )
    if first.startswith("mayfly:") and first.removeprefix("mayfly:") in KEYS:
        return f"pulumi config set {first} VALUE --stack {stack}"
    if first.startswith("mayfly:"):
        return f"pulumi config rm {first} --stack {stack}"
    return ""


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None
