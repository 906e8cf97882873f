"""What `mayfly up` shows while it walks: the attempts so far, and Pulumi's lines above them."""

import json
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from mayfly.capacity import Verdict
from mayfly.ladder.rungs import LeftOut, Rung
from mayfly.ladder.walk import Attempt, Look, Step, TakeUp, Try
from mayfly.vms import printable


class Board:
    """A live table on a terminal; plain lines, one an attempt, anywhere else."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False)
        self._shown = 0

    def __enter__(self) -> "Board":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def line(self, text: str) -> None:
        """One of Pulumi's lines, its heartbeats ("@ updating...") left out."""
        if text.strip() and not text.startswith("@ "):
            self._console.print(f"[dim]{escape(printable(text))}[/]", soft_wrap=True)

    def step(self, attempts: Sequence[Attempt], step: Step) -> None:
        """What was tried, and what comes now."""
        if self._console.is_terminal:
            self._live.update(table(attempts, step), refresh=True)
            return
        for number, attempt in enumerate(attempts[self._shown :], self._shown + 1):
            self._console.print(
                escape(f"attempt {number}: {attempt.rung.place}: {outcome(attempt.verdict)}"),
                soft_wrap=True,
            )
        self._shown = len(attempts)
        if now(step):
            self._console.print(escape(f"== {now(step)}"), soft_wrap=True)


def table(attempts: Sequence[Attempt], step: Step) -> Table:
    """The last ten attempts and the one that runs."""
    found = Table("", "place", "USD/h", "")
    numbered = list(enumerate(attempts, 1))[-10:]
    for number, attempt in numbered:
        found.add_row(str(number), *cells(attempt.rung), outcome(attempt.verdict))
    if isinstance(step, Try):
        found.add_row(str(len(attempts) + 1), *cells(step.rung), now(step), style="bold")
    elif now(step):
        found.add_row("", "", "", now(step), style="bold")
    return found


def cells(rung: Rung) -> tuple[str, str]:
    return str(rung.place), f"{rung.rate.usd_per_h:.2f}"


def outcome(verdict: Verdict | None) -> str:
    if verdict is None:
        return "it serves"
    room = f"; Google names {', '.join(verdict.zones)}" if verdict.zones else ""
    return verdict.reason + room


def now(step: Step) -> str:
    if isinstance(step, Try):
        wait = f", in {step.wait_s:.0f} s" if step.wait_s else ""
        return f"asking for {step.rung.place}{wait}: {step.why}"
    if isinstance(step, Look):
        return f"looking whether a VM is in {step.rung.place.zone}"
    if isinstance(step, TakeUp):
        return f"taking up the VM in {step.rung.place.zone}: the state does not hold it"
    return ""


def show_ladder(rungs: Sequence[Rung], left: Sequence[LeftOut]) -> None:
    """`--dry-run`: every place in the order in which it would be asked, then those left out."""
    console = Console(highlight=False)
    found = Table("", "place", "USD/h", "hours", "egress", "USD", "room")
    for number, rung in enumerate(rungs, 1):
        room = "" if rung.obtainability is None else f"{rung.obtainability:.2f}"
        found.add_row(
            *(str(number), str(rung.place), f"{rung.rate.usd_per_h:.2f}", f"{rung.hours:.1f}"),
            *(f"{rung.egress_usd:.2f}", f"{rung.usd:.2f}", room),
        )
    console.print(found)
    for source in dict.fromkeys(f"{r.rate.source}, {r.rate.date}" for r in rungs):
        console.print(escape(f"rates: {source}"), soft_wrap=True)
    why: dict[str, list[str]] = {}
    for item in left:
        why.setdefault(item.why, []).append(str(item.place))
    for reason, places in why.items():
        some = ", ".join(places[:4]) + (f" and {len(places) - 4} more" if len(places) > 4 else "")
        console.print(escape(f"left out, {reason}: {some}"), soft_wrap=True)


def row(rung: Rung) -> dict[str, Any]:
    return {
        "machine": rung.place.machine,
        "zone": rung.place.zone,
        "provisioning": rung.place.provisioning,
        "usd_per_hour": rung.rate.usd_per_h,
        "rate_source": rung.rate.source,
        "rate_date": rung.rate.date,
        "hours": round(rung.hours, 2),
        "egress_usd": round(rung.egress_usd, 2),
        "usd": round(rung.usd, 2),
        "obtainability": rung.obtainability,
    }


def tell_landed(
    session: str, attempts: Sequence[Attempt], outputs: Mapping[str, Any], *, as_json: bool
) -> None:
    """Where it is and what to run next."""
    if as_json:
        tried = [
            {**row(a.rung), "outcome": outcome(a.verdict), "ended_s": round(a.ended_s, 1)}
            for a in attempts
        ]
        print(json.dumps({"session": session, "attempts": tried, "outputs": outputs}))
        return
    print(
        f"{session} serves {outputs.get('served_model')} in {outputs.get('zone')} at "
        f"{outputs.get('hourly_usd')} USD/h; it ends by {outputs.get('deadline')} at the latest.\n"
        f"Next: mayfly connect {session}",
        file=sys.stderr,
    )


def tell_dry(found: Sequence[Rung], left: Sequence[LeftOut], *, as_json: bool) -> None:
    """The ladder, and nothing done."""
    if as_json:
        rows = [row(rung) for rung in found]
        out = [{"place": str(item.place), "why": item.why} for item in left]
        print(json.dumps({"rungs": rows, "left_out": out}, indent=2))
    else:
        show_ladder(found, left)
