"""`mayfly cost`: what the VMs that are gone have cost, as the reaper's ledger tells it."""

import csv
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import fields

from mayfly.books import GROUPS, Sum, add, read, sums, told
from mayfly.cloud import connect
from mayfly.errors import WrongInputError
from mayfly.ledger import Record
from mayfly.project import find_project
from mayfly.vms import printable

UNKNOWN = "?"
# A spreadsheet takes a cell that begins with one of these for a formula.
FORMULA = ("=", "+", "-", "@")


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
