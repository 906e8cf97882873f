"""What `mayfly status` shows to people: a table, and with --watch the same again and again."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mayfly import endpoint, vms
from mayfly.spans import minutes

Row = Mapping[str, Any]


def show(project: str, rows: Sequence[Row]) -> None:
    """Once."""
    Console().print(view(project, rows))


def follow(project: str, looks: Iterable[tuple[Sequence[Row], str]]) -> None:
    """Until the looks end: in place on a terminal, a line a VM and look anywhere else."""
    console = Console()
    if not console.is_terminal:
        for rows, trouble in looks:
            for text in [line(row) for row in rows] or [nothing(project)]:
                print(f"{clock()} {text}", flush=True)
            if trouble:
                print(f"{clock()} no answer, asking again: {trouble}", flush=True)
        return
    with Live(console=console, auto_refresh=False) as live:
        for rows, trouble in looks:
            parts = [view(project, rows), *(stages(row) for row in rows if row["timeline"])]
            last = f"no answer, asking again: {trouble}" if trouble else "Ctrl-C leaves"
            live.update(Group(*parts, Text(f"{clock()}  {last}", style="dim")), refresh=True)


def clock() -> str:
    return time.strftime("%H:%M:%S")


def nothing(project: str) -> str:
    return f"Nothing of mayfly's runs in {project}; no machine costs money."


def view(project: str, rows: Sequence[Row]) -> Table | Text | Group:
    """The table and, below it, what does not fit into one."""
    if not rows:
        return Text(nothing(project))
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))  # 80 columns are enough
    table.add_column("session", min_width=8, overflow="fold")
    for name in ("phase", "zone", "age", "tok/s", "ends", "$/h", "so far"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        # Text, not markup: what a VM says of itself must not be read as formatting.
        table.add_row(*(Text(str(cell)) for cell in cells(row)))
    return Group(table, *(Text(text) for row in rows for text in notes(row)))


def cells(row: Row) -> tuple[str, ...]:
    name, layer = row["session"], row["layer"]
    return (
        name if layer in ("session", name) else f"{name} ({layer})",
        row["phase"] if row["status"] == "RUNNING" else row["status"].lower(),
        row["zone"],
        minutes(row["age_s"]),
        speed(row),
        ends(row) or "?",
        "?" if row["hourly_usd"] is None else f"{row['hourly_usd']:.2f}",
        meter(row),
    )


def until_s(stamped: str) -> float:
    """Seconds from now to an RFC 3339 time; 0 if it is over."""
    return max(0.0, vms.seconds(stamped) - time.time())


def ends(row: Row) -> str:
    """ "in 12 min"; "" where it is not known. In a start each sign of life moves the end on."""
    if row["verdict"] == "starting" or row["ends_at"] is None:
        return ""
    return f"in {minutes(until_s(row['ends_at']))}"


def speed(row: Row) -> str:
    return "" if row["tok_s"] is None else f"{row['tok_s']:.0f}"


def meter(row: Row) -> str:
    return "?" if row["cost_usd"] is None else f"${row['cost_usd']:.2f}"


def notes(row: Row) -> list[str]:
    """Why it is as it is and whose, how far the endpoint goes, and a rate that is old."""
    by = f", started by {vms.printable(str(row['started_by']), 80)}" if row["started_by"] else ""
    told = [f"{row['session']}: {row['reason']}{by}"]
    if row["mode"] is not None:
        limit = f"up to {row['max_model_len']:,} tokens, mode {row['mode']}"
        why = row["message"] if row["mode"] == endpoint.SAFE else ""
        told.append(f"{row['session']}: {why or limit}")
    if row["rate_warning"]:
        told.append(f"{row['session']}: {row['rate_warning']}")
    return told


def stages(row: Row) -> Text:
    """The start of one VM, stage by stage."""
    words = [stage(each) for each in row["timeline"]]
    return Text(f"{row['session']}: {', '.join(words)}")


def stage(each: Mapping[str, Any]) -> str:
    if each["took_s"] is None:
        return f"{each['stage']} since {minutes(time.time() - vms.seconds(each['started_at']))}"
    return f"{each['stage']} {'' if each['ok'] else 'FAILED after '}{minutes(each['took_s'])}"


def line(row: Row) -> str:
    """One VM in one line, for a log."""
    words = [str(row["session"]), row["phase"], row["reason"]]
    if row["tok_s"] is not None:
        words.append(f"{speed(row)} tokens/s")
    if row["timeline"] and row["phase"] != "serving":
        words.append(stage(row["timeline"][-1]))
    if ends(row):
        words.append(f"ends {ends(row)}")
    return ", ".join([*words, meter(row)])
