"""What a plan is asked for, and what it takes where nothing is said."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field

from mayfly.config import KEYS
from mayfly.modes import Limits
from mayfly.pricing import Rate, utc_today
from mayfly.profile import Profile

DEFAULT_HOURS = float(str(KEYS["maxHours"]))
DEFAULT_MODE = str(KEYS["mode"])


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What to plan. hours: the session's longest life; budget_usd: ends it sooner if it is less.

    nodes: machines of the type that serve the model together.
    weights_from: what says how large the weights are; "" = the model's config.json.
    live_rates: what Google says of the price now; they go before the table's.
    """

    profile: Profile
    machine: str
    nodes: int = 1
    mode: str = DEFAULT_MODE
    provisioning: str = "spot"
    zone: str = ""
    hours: float = DEFAULT_HOURS
    budget_usd: float | None = None
    limits: Limits = field(default_factory=Limits)
    weights_from: str = ""
    live_rates: Sequence[Rate] = ()
    today: datetime.date = field(default_factory=utc_today)
