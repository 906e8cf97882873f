"""What to do next on the ladder: a pure function of what was tried and how it ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mayfly.capacity import Verdict
from mayfly.ladder.remedies import remedy
from mayfly.ladder.rungs import Place, Rung
from mayfly.machines import MACHINES

Found = Literal["nothing", "ours", "others", "unknown", "adopted", "cleared"]
"""What a look by name saw: no VM, one that this launch made, another's, or it could not look.
"adopted": it was ours, and the stack's state holds it now; "cleared": it was ours, and is gone."""

RETRY_FIRST_S = 60.0
"""A rate limit is counted by the minute."""
HICCUP_FIRST_S = 10.0
"""After a dropped connection that made nothing."""
ROUND_FIRST_S = 120.0
LONGEST_WAIT_S = 900.0
TRIES_OF_A_RUNG = 4
"""In a row, where the error says "again": then it is no hiccup."""

LOOKED = {"nothing": HICCUP_FIRST_S, "adopted": 0.0, "cleared": 0.0}
"""What settles a look, and the first wait before the rung is tried again."""

PREEMPTIBLE_QUOTA = ("spot", "flex-start")


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One `up` on a rung. verdict: None = a VM is there, and in the state.

    round: how many times the whole ladder was walked before. found: after a look. ended_s: on the
    walker's clock, 0 = the start of the walk.
    """

    rung: Rung
    round: int
    verdict: Verdict | None
    ended_s: float
    found: Found | None = None


@dataclass(frozen=True, kw_only=True)
class Try:
    """Wait, then bring the stack up on this rung. why: for people."""

    rung: Rung
    round: int = 0
    wait_s: float = 0.0
    why: str = ""


@dataclass(frozen=True)
class Look:
    """Look for a VM of this name in the rung's zone before anything else."""

    rung: Rung


@dataclass(frozen=True)
class TakeUp:
    """A VM of this launch is there and outside the state: take it in, or away, then try again."""

    rung: Rung


@dataclass(frozen=True)
class Done:
    """The VM is there."""

    rung: Rung


@dataclass(frozen=True, kw_only=True)
class Stop:
    """No further. refused: the answer is "no" (no capacity, no quota), not a failure."""

    what: str
    meaning: str
    remedy: str
    refused: bool = False


Step = Try | Look | TakeUp | Done | Stop


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """Rungs, best first, and for how long the whole is walked anew; 0 = once."""

    rungs: Sequence[Rung]
    retry_for_s: float = 0.0


def next_step(ladder: Ladder, attempts: Sequence[Attempt]) -> Step:
    """The next step after these attempts, oldest first."""
    if not attempts:
        return _first(ladder)
    last = attempts[-1]
    verdict = last.verdict
    if verdict is None:
        return Done(last.rung)
    if verdict.action == "stop":
        return _stop(last, verdict)
    if verdict.action == "look_first" and last.found not in LOOKED:
        return _after_look(last, verdict)
    if verdict.action in ("retry", "look_first"):
        row = _in_a_row(attempts)
        if row < TRIES_OF_A_RUNG:
            first_s = LOOKED.get(last.found or "", RETRY_FIRST_S)
            wait_s = min(first_s * 2 ** (row - 1), LONGEST_WAIT_S)
            return Try(rung=last.rung, round=last.round, wait_s=wait_s, why=verdict.reason)
        if verdict.action == "retry":
            return _stop(last, verdict)
    return _onwards(ladder, attempts)


def _first(ladder: Ladder) -> Step:
    if ladder.rungs:
        return Try(rung=ladder.rungs[0], why="the best by price and chance")
    return Stop(
        what="No place is left to ask for a VM.",
        meaning="Nothing was created; nothing is billed.",
        remedy="Try: mayfly up --dry-run, which says why each place was left out",
        refused=True,
    )


def _after_look(last: Attempt, verdict: Verdict) -> Step:
    place = last.rung.place
    if last.found is None:
        return Look(last.rung)
    if last.found == "ours":
        return TakeUp(last.rung)
    if last.found == "others":
        return Stop(
            what=f"A VM of this name is in {place.zone}, and this stack did not make it.",
            meaning="It was left alone; this launch made nothing.",
            remedy="Try: mayfly status, or another name: the same command with --session NAME",
        )
    return Stop(
        what=f"{verdict.reason}; and Google did not answer when asked for it.",
        meaning=f"A VM may run in {place.zone}; GCE ends it after {last.rung.hours:g} h at the "
        f"latest, at {last.rung.rate.usd_per_h:.2f} USD/h.",
        remedy="Try: mayfly status, as soon as Google answers; then the same command again",
    )


def _stop(last: Attempt, verdict: Verdict) -> Stop:
    return Stop(
        what=f"{last.rung.place}: {verdict.reason}.",
        meaning="No VM was made; nothing is billed.",
        remedy=remedy(verdict.id),
        refused=verdict.id == "quota-global",
    )


def _in_a_row(attempts: Sequence[Attempt]) -> int:
    """How many of the last attempts were of one rung, in one round."""
    last, count = attempts[-1], 0
    for attempt in reversed(attempts):
        if (attempt.rung.place, attempt.round) != (last.rung.place, last.round):
            break
        count += 1
    return count


def _onwards(ladder: Ladder, attempts: Sequence[Attempt]) -> Step:
    """The best rung of this round that is left; else the next round; else the end."""
    last = attempts[-1]
    this_round = [a for a in attempts if a.round == last.round]
    open_ever = [r for r in ladder.rungs if not any(_ends(a, r) for a in attempts)]
    left = [r for r in open_ever if not any(_passes(a, r) for a in this_round)]
    if left:
        hinted = _hinted(this_round, left)
        if hinted:
            why = f"Google says that {hinted.place.zone} has room"
            return Try(rung=hinted, round=last.round, why=why)
        why = last.verdict.reason if last.verdict else ""
        return Try(rung=left[0], round=last.round, why=why)
    wait_s = min(ROUND_FIRST_S * 2**last.round, LONGEST_WAIT_S)
    if open_ever and last.ended_s + wait_s <= ladder.retry_for_s:
        why = "every place was asked; once more from the top"
        return Try(rung=open_ever[0], round=last.round + 1, wait_s=wait_s, why=why)
    return _nothing_left(ladder, attempts, bool(open_ever))


def _hinted(this_round: Sequence[Attempt], left: Sequence[Rung]) -> Rung | None:
    """The first open rung of the zones that Google named, in its order; the newest word counts."""
    for attempt in reversed(this_round):
        place, zones = attempt.rung.place, attempt.verdict.zones if attempt.verdict else ()
        for zone in zones:
            for rung in left:
                same = (rung.place.machine, rung.place.provisioning) == (
                    place.machine,
                    place.provisioning,
                )
                if same and rung.place.zone == zone:
                    return rung
    return None


def _passes(attempt: Attempt, rung: Rung) -> bool:
    """Whether that attempt says that there is no use in asking this rung in the same round."""
    verdict, tried, place = attempt.verdict, attempt.rung.place, rung.place
    if verdict is not None and verdict.action == "next_region":
        return _what(tried) == _what(place) and tried.region == place.region
    return tried == place


def _ends(attempt: Attempt, rung: Rung) -> bool:
    """Whether that attempt closes this rung for good: waiting does not mend a quota."""
    verdict, tried, place = attempt.verdict, attempt.rung.place, rung.place
    if verdict is None or not verdict.lasting:
        return False
    if verdict.action == "next_region":
        return quota_of(tried) == quota_of(place) and tried.region == place.region
    return tried == place


def _what(place: Place) -> tuple[str, str]:
    return place.machine, place.provisioning


def quota_of(place: Place) -> tuple[str, bool]:
    """Places of one region that share a GPU quota have the same: (family of machines, kind)."""
    family = place.machine.rpartition("-")[0]
    kind = MACHINES[place.machine].gpu, family
    return "/".join(kind), place.provisioning in PREEMPTIBLE_QUOTA


def _nothing_left(ladder: Ladder, attempts: Sequence[Attempt], some_open: bool) -> Stop:
    asked = len({a.rung.place for a in attempts})
    if some_open:
        return Stop(
            what=f"No capacity: {asked} places were asked in {len(attempts)} attempts.",
            meaning="No VM was made; nothing is billed.",
            remedy="Try: the same command with --retry-for 2h"
            if not ladder.retry_for_s
            else "Try: a longer --retry-for, or more: --provisioning spot,flex-start,on-demand",
            refused=True,
        )
    lasting = sorted({(v.reason, v.id) for a in attempts if (v := a.verdict) and v.lasting})
    return Stop(
        what=f"No place is left: {'; '.join(reason for reason, _ in lasting)}.",
        meaning="No VM was made; nothing is billed. Waiting does not help.",
        remedy=remedy(lasting[0][1] if lasting else ""),
        refused=True,
    )
