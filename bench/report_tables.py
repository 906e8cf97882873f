"""The report's tables: head and lines of each, in words and plain figures."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench import old_way
from bench.pictures import Runs, timeline
from bench.result import load_of
from mayfly import break_even as even
from mayfly.break_even import Api

Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]
"""Caption, heads, lines."""
NONE = "-"


def figure(value: float | None, digits: int = 1) -> str:
    return NONE if value is None else f"{value:,.{digits}f}"


def spread(phase: Mapping[str, Any], key: str, *parts: str, digits: int = 0) -> str:
    found = phase[key]
    return " / ".join(figure(found[p], digits) for p in parts) if found else NONE


def summary(runs: Runs) -> Table:
    """A line for each run and load."""
    head = ["run", "load", "requests", "failed", "tokens/s in all", "tokens/s each, median"]
    head += ["TTFT ms, p50 / p90 / p99", "TPOT ms, p50 / p99", "$ per million"]
    lines = [[who, *numbers(phase)] for who, result in runs for phase in result["phases"]]
    return "Every run and load", head, lines


def numbers(phase: Mapping[str, Any]) -> list[str]:
    return [
        load_of(phase),
        f"{phase['requests']:,}",
        f"{phase['errors']:,}",
        figure(phase["total_tokens_per_s"]),
        spread(phase, "tokens_per_s", "p50", digits=1),
        spread(phase, "ttft_ms", "p50", "p90", "p99"),
        spread(phase, "tpot_ms", "p50", "p99", digits=1),
        figure(phase["usd_per_m_output_tokens"], 2),
    ]


def speeds(runs: Runs) -> Table:
    """What the picture of throughput shows."""
    lines = [
        [
            who,
            str(phase["concurrent"]),
            figure(phase["total_tokens_per_s"]),
            spread(phase, "tokens_per_s", "p50", digits=1),
        ]
        for who, result in runs
        for phase in result["phases"]
        if phase["concurrent"]
    ]
    return "Throughput", ["run", "requests at once", "tokens/s in all", "each, median"], lines


def break_even(runs: Runs, api: Api) -> Table:
    """From how much use on the own machine is cheaper."""
    lines = []
    for who, result in runs:
        for phase in result["phases"] if result["rate"] else ():
            if phase["total_tokens_per_s"]:
                speed = {1: phase["total_tokens_per_s"]}
                (point,) = even.points(speed, result["rate"]["usd_per_hour"], api)
                here, there = f"${point.usd_per_m:,.2f}", f"${point.api_usd_per_h:,.2f}"
                lines.append([who, load_of(phase), here, there, even.sentence(point)])
    head = ["run", "load", "a million tokens here", "an hour's tokens at the API", "own machine"]
    return "Break-even", head, lines


def starts(runs: Runs) -> Table:
    lines = [
        [who, stage["stage"], f"{stage['end'] - stage['start']:.1f}", size(stage)]
        for who, result in runs
        for stage in timeline(result)
    ]
    return "Stages", ["run", "stage", "seconds", "brought"], lines


def size(stage: Mapping[str, Any]) -> str:
    found = stage.get("bytes")
    if not found:
        return NONE
    return f"{found / 1e9:,.2f} GB" if found >= 1e9 else f"{found / 1e6:,.1f} MB"


def costs(runs: Runs) -> Table:
    """What each session cost up to its benchmark, and who says what an hour is."""
    lines = []
    for who, result in runs:
        session, rate = result["session"] or {}, result["rate"] or {}
        usd = session.get("usd")
        lines.append(
            [
                who,
                str(session.get("machine") or NONE),
                str(session.get("provisioning") or NONE),
                figure(rate.get("usd_per_hour"), 2),
                f"{rate['source']}, {rate['date'] or 'no date'}" if rate else NONE,
                figure(session["seconds"] / 60) if session.get("seconds") else NONE,
                NONE if usd is None else f"${usd:,.2f}",
            ]
        )
    head = ["run", "machine", "provisioning", "$ an hour", "says who", "minutes", "cost so far"]
    return "Session cost", head, lines


def old_and_new(who: str, result: Mapping[str, Any]) -> Table:
    lines = [
        [row.figure, row.theirs, row.ours, f"no: {row.but}" if row.but else "yes"]
        for row in old_way.rows(result)
    ]
    return who, ["figure", "the old way", "this run", "do they compare?"], lines


def conditions(runs: Runs) -> Table:
    lines = []
    for who, result in runs:
        session, versions = result["session"] or {}, result["versions"]
        load = ", ".join(f"{k} {v}" for k, v in result["load"].items() if v not in (None, ""))
        facts = [
            ("command", " ".join(result.get("command", ()))),
            ("load", load),
            ("engine", str(versions.get("engine") or NONE)),
            ("mayfly", str(versions.get("mayfly") or NONE)),
            ("profile, mode", " ".join(str(session.get(k) or NONE) for k in ("profile", "mode"))),
            ("flags", " ".join(session.get("serve_flags") or ()) or NONE),
            ("date", result["date"]),
        ]
        lines += [[who, label, value] for label, value in facts]
    return "Conditions", ["run", "what", "value"], lines
