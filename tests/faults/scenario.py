"""What a scenario is, and the list of them all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.faults.session import Due, Session
from tests.faults.timing import Timing

Play = Callable[[Session], Sequence[Due]]
WATCHDOG, REAPER, DEADLINE = LAYERS = ("watchdog", "reaper", "deadline")
CALM, ALONE, PAUSED = "calm", "alone", "scheduler-paused"


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One row of the matrix.

    layers_off: which of the three cannot act. play: bring it about; returns when each VM should
    have ended, and whom the ledger may name. bound: how much later it may end, by design.
    config: what the session's settings differ in, for play and bound alike. condition: the state
    of the place that it is played in (tests/faults/conditions.py).
    """

    name: str
    does: str
    play: Play
    bound: Callable[[Timing], float]
    layers_off: tuple[str, ...] = ()
    config: Mapping[str, str] = field(default_factory=dict)
    condition: str = CALM

    @property
    def may_leave_disk(self) -> bool:
        """Only where nobody is left to take it away."""
        return REAPER in self.layers_off


ALL: dict[str, Scenario] = {}


def scenario(
    does: str,
    bound: Callable[[Timing], float],
    *,
    off: tuple[str, ...] = (),
    config: Mapping[str, str] | None = None,
    condition: str = CALM,
) -> Callable[[Play], Play]:
    """Add a function to the list under its own name, with hyphens."""

    def add(play: Play) -> Play:
        name = play.__name__.replace("_", "-")
        assert name not in ALL, f"two scenarios are called {name}"
        ALL[name] = Scenario(
            name=name,
            does=does,
            play=play,
            bound=bound,
            layers_off=off,
            config=config or {},
            condition=condition,
        )
        return play

    return add
