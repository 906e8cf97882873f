"""A pattern of capacity: where and when there is room, which quotas hold, what else goes wrong.

Read from YAML (`local/patterns/`, or a file of the user's) or from the control door; the page
`docs/local-capacity.md` says what may stand in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from local.rest.faults import FaultError, Faults
from local.rest.quota_limits import born, put

FOLDER = Path(__file__).resolve().parent.parent / "patterns"
FOR_EVER = float("inf")
MODELS = ("SPOT", "FLEX_START", "STANDARD")
STOCKOUTS = ("stockout-with-details", "stockout-plain", "stockout-http-503", "stockout-region")
QUOTA_ANSWERS = {"operation": "quota-exceeded-op", "http": "quota-http-403"}
KEYS = {"says", "source", "capacity", "quotas", "quota_answer", "faults"}
ROW_KEYS = {"zone", "machine", "model", "room", "answer", "names", "after_s", "reclaims"}

Turns = tuple[tuple[float, float], ...]


class PatternError(ValueError):
    """A pattern that cannot be meant; the message says what and where."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """The capacity of some places.

    zone, machine: shell patterns; machine "" is every type with GPUs. model: Google's word, ""
    is any. room: when there is some, in minutes since the pattern began. answer: the fault that
    says that there is none, after `after_s` seconds. names: the zones that it names; None is those
    of the region that have room. reclaims: when the room ends, so do the SPOT VMs in it.
    """

    zone: str = "*"
    machine: str = ""
    model: str = ""
    room: Turns = ((0.0, FOR_EVER),)
    answer: str = STOCKOUTS[0]
    names: tuple[str, ...] | None = None
    after_s: float = 0.0
    reclaims: bool = False

    def holds(self, zone: str, machine: str, model: str, gpus: int) -> bool:
        """Whether this row is about that place."""
        kind = fnmatchcase(machine, self.machine) if self.machine else gpus > 0
        return kind and fnmatchcase(zone, self.zone) and self.model in ("", model)

    def has_room(self, minute: float) -> bool:
        return any(begin <= minute < end for begin, end in self.room)


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """rows: the first that holds decides; a place without a row always has room.

    quotas: Cloud Quotas' id -> region ("" everywhere) -> limit. faults: as the control door takes
    them. source: "made", or where and when it was recorded.
    """

    name: str = ""
    says: str = ""
    source: str = "made"
    rows: tuple[Row, ...] = ()
    quotas: Mapping[str, Mapping[str, int]]
    quota_answer: str = QUOTA_ANSWERS["operation"]
    faults: tuple[Mapping[str, Any], ...] = ()

    def limits(self) -> Iterator[tuple[str, str, int]]:
        """(quota id, region or "", value), the ones for all regions first."""
        for quota_id, values in self.quotas.items():
            for region in sorted(values):
                yield quota_id, region, values[region]

    def row(self, zone: str, machine: str, model: str, gpus: int) -> Row:
        """What decides about a place."""
        return next((r for r in self.rows if r.holds(zone, machine, model, gpus)), Row())


NOTHING = Pattern(quotas={})


def names() -> list[str]:
    """The patterns that come with the local cloud."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> Pattern:
    """By its name in `local/patterns/`, or by a path. PatternError says what is wrong."""
    shipped = FOLDER / f"{name}.yaml"
    path = shipped if shipped.is_file() else Path(name)
    if not path.is_file():
        raise PatternError(f"no pattern {name!r}: neither a file nor one of {', '.join(names())}")
    try:
        raw = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PatternError(f"{path}: {error}") from error
    return parse(raw, path.stem)


def parse(raw: Any, name: str = "") -> Pattern:
    """What the file holds, as a Pattern."""
    _known(raw, KEYS, name or "a pattern")
    answer = raw.get("quota_answer", "operation")
    if answer not in QUOTA_ANSWERS:
        raise PatternError(f"quota_answer is {answer!r}, not one of {', '.join(QUOTA_ANSWERS)}")
    made = Pattern(
        name=name,
        says=str(raw.get("says", "")),
        source=str(raw.get("source", "made")),
        rows=tuple(_row(row, f"capacity[{i}]") for i, row in enumerate(raw.get("capacity") or [])),
        quotas={k: _limits(k, v) for k, v in (raw.get("quotas") or {}).items()},
        quota_answer=QUOTA_ANSWERS[answer],
        faults=tuple(raw.get("faults") or ()),
    )
    _rehearse(made)
    return made


def _rehearse(made: Pattern) -> None:
    """Refuse what could not be played: a quota or a fault that there is none of."""
    limits, faults = born(), Faults()
    try:
        for quota_id, region, value in made.limits():
            put(limits, quota_id, region, value)
        for order in made.faults:
            faults.order(order)
    except (LookupError, FaultError) as error:
        raise PatternError(f"{made.name or 'the pattern'}: {error}") from error


def _known(raw: Any, keys: set[str], where: str) -> None:
    if not isinstance(raw, dict):
        raise PatternError(f"{where} is no mapping")
    if strange := set(raw) - keys:
        raise PatternError(
            f"{where} has {', '.join(map(repr, sorted(map(str, strange))))}; "
            f"there are {', '.join(sorted(keys))}"
        )


def _row(raw: Any, where: str) -> Row:
    _known(raw, ROW_KEYS, where)
    fields = dict(raw)
    for key, valid in (("model", MODELS), ("answer", STOCKOUTS)):
        if key in fields and fields[key] not in valid:
            raise PatternError(f"{where}.{key} is {fields[key]!r}, not one of {', '.join(valid)}")
    fields["room"] = _turns(fields.get("room", "always"), f"{where}.room")
    if fields.get("names") is not None:
        fields["names"] = tuple(map(str, fields["names"]))
    return Row(**fields)


def _turns(raw: Any, where: str) -> Turns:
    """always, never, or [[from, to], ...] in minutes; `to` may be null."""
    if raw in ("always", "never"):
        return ((0.0, FOR_EVER),) if raw == "always" else ()
    try:
        turns = tuple((float(a), FOR_EVER if b is None else float(b)) for a, b in raw)
    except (TypeError, ValueError):
        raise PatternError(f"{where} is {raw!r}: always, never or [[from, to], ...]") from None
    flat = [at for turn in turns for at in turn]
    if flat != sorted(flat) or any(a == b for a, b in turns):
        raise PatternError(f"{where} is {raw!r}: its turns must follow each other")
    return turns


def _limits(quota_id: str, raw: Any) -> dict[str, int]:
    found = raw if isinstance(raw, dict) else {"": raw}
    for region, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < -1:
            raise PatternError(f"quotas.{quota_id} is {value!r} in {region or 'all'}, no limit")
    return {str(region): value for region, value in found.items()}
