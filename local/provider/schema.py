"""The resource tables in types/*.yaml as objects: one file a type, read when the type is first
used."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

TYPES = Path(__file__).parent / "types"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
ZERO: dict[str, Any] = {"string": "", "int": 0, "number": 0, "bool": False}
COLLECTIONS = frozenset({"list", "set", "map", "objects", "objectset"})


@dataclass(frozen=True)
class Field:
    """One property. types/README.md explains every key."""

    name: str
    type: str = "string"
    need: str = "optional"
    replace: bool | str = False
    default: Any = None
    fill: bool = False
    one_of: tuple[str, ...] = ()
    check: str = ""
    items: tuple[int, int] = (0, 0)
    secret: bool = False
    write_only: bool = False
    link: str = ""
    same: str = ""
    call: str = ""
    stop: bool = False
    api: str = ""
    wire: str = ""
    empty: str = ""
    patch: bool = False
    read: str = ""
    output: bool = False
    children: dict[str, Field] = field(default_factory=dict)

    @property
    def required(self) -> bool:
        return self.need == "required"

    @property
    def computed(self) -> bool:
        return self.need == "computed" or self.output

    @property
    def sent(self) -> bool:
        """Whether it is part of the REST resource (else of the address, or of nothing)."""
        return self.api not in ("-", "url")

    @property
    def api_path(self) -> str:
        return self.api or self.name

    @property
    def zero(self) -> Any:
        return ZERO.get(self.type)


@dataclass(frozen=True)
class Table:
    """What is known of a type: its properties and how they become REST calls."""

    token: str
    fields: dict[str, Field]
    header: dict[str, Any]

    @property
    def service(self) -> str:
        return str(self.header["service"])

    @property
    def noun(self) -> str:
        return str(self.header["noun"])

    @property
    def identity(self) -> str:
        return str(self.header["id"])

    @property
    def path(self) -> str:
        return str(self.header.get("path", self.header["id"]))

    @property
    def name_field(self) -> str:
        """The property that Pulumi fills with a name of its own, or ""."""
        return str(self.header.get("name", {}).get("property", ""))

    @property
    def inputs(self) -> dict[str, Field]:
        return {name: item for name, item in self.fields.items() if not item.output}


def _field(name: str, row: dict[str, Any], children: dict[str, Field], output: bool) -> Field:
    values = dict(row)
    values["one_of"] = tuple(values.get("one_of", ()))
    values["items"] = tuple(values.get("items", (0, 0)))
    return Field(name=name, children=children, output=output, **values)


def _tree(rows: dict[str, tuple[dict[str, Any], bool]], prefix: str = "") -> dict[str, Field]:
    tree = {}
    for path, (row, output) in rows.items():
        if not path.startswith(prefix) or "." in path[len(prefix) :]:
            continue
        name = path[len(prefix) :]
        tree[name] = _field(name, row, _tree(rows, f"{path}."), output)
    return tree


def file_of(token: str) -> Path:
    """The table of a type, whether it exists or not ("gcp:compute/disk:Disk" ->
    compute_disk.yaml)."""
    return TYPES / (token.split(":")[1].replace("/", "_") + ".yaml")


@functools.cache
def load(token: str) -> Table | None:
    """The table of a type; None for a type that the stand-in does not know."""
    if token.count(":") != 2 or not file_of(token).is_file():
        return None
    raw = yaml.load(file_of(token).read_text(), Loader=_LOADER)
    if raw.pop("type") != token:
        return None
    rows = {path: (row, False) for path, row in raw.pop("properties").items()}
    rows |= {path: (row, True) for path, row in raw.pop("outputs", {}).items()}
    return Table(token=token, fields=_tree(rows), header=raw)
