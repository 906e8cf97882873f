"""What Google says of spot capacity and its price now, for the ladder's ranking."""

from collections.abc import Callable
from dataclasses import replace

from mayfly import advice, pricing
from mayfly.cloud import Cloud, CloudError
from mayfly.ladder.rungs import Question
from mayfly.live import spot_rate
from mayfly.machines import MACHINES, region_of
from mayfly.pricing import Rate

Tell = Callable[[str], None]


def advised(question: Question, cloud: Cloud, tell: Tell) -> Question:
    """The same wish with the chances and the prices that Google tells; as it was where it does not.

    Its price in the user's own project goes before any table's.
    """
    if "spot" not in question.provisioning:
        return question
    chances: dict[tuple[str, str], float] = {}
    rates: list[Rate] = []
    for machine in question.machines or question.profile.machines:
        zones = [zone for zone in MACHINES[machine].zones if allowed(question, zone)]
        try:
            found = advice.ask(cloud, machine, zones)
        except CloudError as error:
            tell(f"no advice on {machine}, going by the table of prices: {error.message}")
            continue
        for one in found:
            if one.obtainability is not None:
                chances[machine, one.zone] = one.obtainability
            if one.usd_per_h:
                rates.append(spot_rate(machine, one, cloud.project))
    return replace(question, obtainability=chances, rates=(*rates, *pricing.shipped()))


def allowed(question: Question, zone: str) -> bool:
    return region_of(zone) in question.regions and (not question.zones or zone in question.zones)
