"""`mayfly cost`: what the VMs that are gone have cost, as the reaper's ledger tells it."""

import csv
import json
import re
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from typing import Any

from mayfly import ledger, names
from mayfly.cloud import Cloud, connect
from mayfly.errors import FailedError, WrongInputError
from mayfly.ledger import Record
from mayfly.project import find_project
from mayfly.vms import printable

AT_ONCE = 16
UNKNOWN = "?"
MONTH_CHARS = len("2026-11")
GROUPS: dict[str, Callable[[Record], str | None]] = {
    "session": lambda record: record.session,
    "user": lambda record: record.started_by,
    "profile": lambda record: record.profile,
    "month": lambda record: record.created[:MONTH_CHARS] if record.created else None,
}
# A spreadsheet takes a cell that begins with one of these for a formula.
FORMULA = ("=", "+", "-", "@")


@dataclass(frozen=True)
class Sum:
    """Some lives together. usd: of those whose rate is known; unknown: how many ran at none."""

    vms: int
    seconds: float
    usd: float
    unknown: int


def run(*, as_json: bool, as_csv: bool, month: str = "") -> None:
    """Print the ledger's sums, or its records as CSV. Reads the state bucket and nothing else.

    month: "2026-11": only the lives that began in it.
    """
    if as_json and as_csv:
        raise WrongInputError(
            "--json and --csv at once.", "Nothing was attempted.", "Try: mayfly cost --json"
        )
    check_month(month)
    project = find_project()
    bucket = project.state_bucket(project.google_project())
    records = read(connect(project.google_project()), bucket)
    if month:
        records = [record for record in records if GROUPS["month"](record) == month]
    if as_csv:
        write_csv(records)
    elif as_json:
        print(json.dumps(told(project.google_project(), bucket, records), indent=2))
    else:
        show(bucket, records, month)


def check_month(text: str) -> None:
    """WrongInputError for what is no month; "" is all of them."""
    known = re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", text)
    if text and not known:
        raise WrongInputError(
            f"--month {text}: it must be a year and a month.",
            "Nothing was attempted.",
            "Try: mayfly cost --month 2026-11",
        )


def read(cloud: Cloud, bucket: str) -> list[Record]:
    """Every record, oldest first. FailedError names the one that cannot be read: no sum without
    it would be right."""

    def one(name: str) -> Record | None:
        blob = cloud.storage.get(bucket, name)
        return None if blob is None else parse(blob.data, f"gs://{bucket}/{name}")

    listed = [str(item["name"]) for item in cloud.storage.list(bucket, names.LEDGER_PREFIX)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = [record for record in pool.map(one, listed) if record is not None]
    return sorted(found, key=lambda record: (record.created or "", record.instance_id))


def parse(data: bytes, address: str) -> Record:
    """One record. FailedError says how to look at it where it is not one."""
    try:
        return ledger.from_json(data, address)
    except FailedError as error:
        raise FailedError(
            str(error),
            "Every sum would be wrong without it; nothing was changed, and nothing more runs.",
            f"Try: gcloud storage cat {address}",
        ) from error


def told(project: str, bucket: str, records: list[Record]) -> dict[str, Any]:
    """All of it as one JSON object."""
    groups = {
        f"by_{group}": [{"name": name, **asdict(summed)} for name, summed in sums(records, group)]
        for group in GROUPS
    }
    total = asdict(add(records))
    rows = [asdict(record) for record in records]
    return {"project": project, "bucket": bucket, "total": total, **groups, "records": rows}


def sums(records: Iterable[Record], group: str) -> list[tuple[str | None, Sum]]:
    """One sum a session, user, profile or month, the dearest first; months in their order."""
    found: dict[str | None, list[Record]] = {}
    for record in records:
        found.setdefault(GROUPS[group](record), []).append(record)
    added = [(name, add(members)) for name, members in found.items()]
    if group == "month":
        return sorted(added, key=lambda pair: pair[0] or "")
    return sorted(added, key=lambda pair: (-pair[1].usd, pair[0] or ""))


def add(records: list[Record]) -> Sum:
    """The sum of some records: an unknown cost is counted, never guessed."""
    known = [record.usd for record in records if record.usd is not None]
    seconds = round(sum(record.seconds for record in records), 3)
    return Sum(len(records), seconds, round(sum(known), 6), len(records) - len(known))


def write_csv(records: list[Record]) -> None:
    """One line a VM, with every field but the timeline."""
    columns = [field.name for field in fields(Record) if field.name != "timeline"]
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(columns)
    for record in records:
        out.writerow([_cell(getattr(record, column)) for column in columns])


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    return f"'{value}" if value.startswith(FORMULA) else value


def show(bucket: str, records: list[Record], month: str = "") -> None:
    """The sums for people, and what their rates rest on."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not records:
        began = f" that began in {month}" if month else ""
        console.print(f"No VM{began} has ended yet: there is no record in gs://{bucket}.")
        return
    for group in GROUPS:
        table = Table(group, "VMs", "hours", "$", "rate unknown")
        for name, summed in sums(records, group):
            # Text, not markup: names come from VMs' metadata.
            table.add_row(*(Text(cell) for cell in _row(printable(name or UNKNOWN), summed)))
        console.print(table)
    total = add(records)
    console.print(f"${total.usd:.2f} for {total.vms} VMs; what still runs: mayfly status")
    if total.unknown:
        console.print(f"{total.unknown} of them ran at no known rate: their cost is not in there.")
    for source in rate_sources(records):
        console.print(Text(f"rates: {source}"), soft_wrap=True)


def rate_sources(records: Iterable[Record]) -> list[str]:
    """Who says what an hour cost, and since when, each once."""
    found = {
        f"{printable(str(record.rate_source))}, {printable(str(record.rate_date))}"
        for record in records
        if record.usd_per_h is not None
    }
    return sorted(found)


def _row(name: str, summed: Sum) -> list[str]:
    hours, usd = f"{summed.seconds / 3600:.1f}", f"{summed.usd:.2f}"
    return [name, str(summed.vms), hours, usd, str(summed.unknown or "")]
