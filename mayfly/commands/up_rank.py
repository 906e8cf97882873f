"""The ladder as `up` walks it: by Google's prices and chances, less what no quota allows."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from mayfly import quota
from mayfly.cloud import Cloud, CloudError
from mayfly.commands.up_advice import Tell, advised
from mayfly.errors import RefusedError
from mayfly.ladder.rungs import LeftOut, Question, Rung, rungs
from mayfly.machines import MACHINES
from mayfly.problems import NOTHING_DONE
from mayfly.quota import Demand, Finding, Limits


@dataclass(frozen=True)
class Ranking:
    """Rungs, best first; what was left out; and the answer where no rung is left."""

    found: tuple[Rung, ...]
    left: tuple[LeftOut, ...]
    refusal: RefusedError | None


def ranking(question: Question, cloud: Cloud, tell: Tell) -> Ranking:
    """Ask Google for prices, chances and quotas; what it does not tell is done without."""
    found, left = rungs(advised(question, cloud, tell))
    if not found:
        return Ranking(found, left, no_rung(left))
    try:
        limits = quota.read(cloud.quotas.infos(quota.SERVICE))
    except CloudError as error:
        tell(f"no quota could be read, so the launch itself will tell: {error.message}")
        return Ranking(found, left, None)
    kept, short = granted(found, limits)
    left = (*left, *short)
    return Ranking(kept, left, None if kept else too_little(question, found, limits))


def granted(found: Sequence[Rung], limits: Limits) -> tuple[tuple[Rung, ...], tuple[LeftOut, ...]]:
    """The rungs whose region grants a VM of theirs, and the others. What others use is unknown."""

    @functools.cache
    def findings(machine: str, provisioning: str, region: str) -> list[Finding]:
        return quota.check(limits, MACHINES[machine], provisioning, region)

    kept, left = [], []
    for rung in found:
        place = rung.place
        seen = findings(place.machine, place.provisioning, place.region)
        short = next((finding for finding in seen if finding.short), None)
        if short is None:
            kept.append(rung)
            continue
        what = f"{short.need.quota_id} is {quota.shown(short.limit)}"
        left.append(LeftOut(place=place, why=f"{what}, {short.need.least:,} are needed"))
    return tuple(kept), tuple(left)


def too_little(question: Question, found: Sequence[Rung], limits: Limits) -> RefusedError:
    """What is short for the best rung's machine, where it is least, and the request to send."""
    best = found[0].place
    places = (rung.place for rung in found)
    regions = dict.fromkeys(p.region for p in places if p.machine == best.machine)
    demand = Demand(
        profile=question.profile.name,
        machine=MACHINES[best.machine],
        provisioning=best.provisioning,
        regions=tuple(regions),
    )
    return demand.refusal(demand.check(limits))


def no_rung(left: Sequence[LeftOut]) -> RefusedError:
    reasons = sorted({item.why for item in left})
    return RefusedError(
        f"No place is left to ask: {'; '.join(reasons) or 'nothing fits what was asked for'}.",
        NOTHING_DONE,
        "Try: mayfly up --dry-run --provisioning spot,flex-start,on-demand",
    )
