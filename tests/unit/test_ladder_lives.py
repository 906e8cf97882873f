"""A session over several VMs: one grant of time and money, whoever's VM uses it."""

import pytest

from mayfly.ladder.lives import Again, Grant, Life, Over, Stay, after, elsewhere
from mayfly.ladder.rungs import Place
from tests.unit.ladders import ZONES, rung

NOW = 1_800_000_000.0
HOUR = 3600.0
GRANT = Grant(hours=4, budget_usd=100)


def lived(began_h: float, ended_h: float | None, *, usd_per_h: float = 20, egress: float = 0):
    """A life by hours before now."""
    return Life(
        place=Place(machine="a3-highgpu-8g", zone=ZONES[0], provisioning="spot"),
        began_at=NOW - began_h * HOUR,
        ended_at=None if ended_h is None else NOW - ended_h * HOUR,
        usd_per_h=usd_per_h,
        egress_usd=egress,
    )


def test_second_life_gets_what_the_first_has_left_when_google_took_it():
    """The deadline is the session's: time without a VM counts, its money does not."""
    found = after("taken", GRANT, [lived(1.5, 0.5, egress=12)], NOW)

    assert found == Again(hours=2.5, budget_usd=pytest.approx(100 - 12 - 20))


def test_money_of_every_life_counts_when_there_were_several():
    lives = [lived(3, 2.5, usd_per_h=40), lived(2, None, usd_per_h=30)]

    assert GRANT.budget_left(lives, NOW) == pytest.approx(100 - 20 - 60)
    assert GRANT.hours_left(lives, NOW) == pytest.approx(1)


@pytest.mark.parametrize(
    ("sight", "began_h", "found"),
    [
        ("lives", 1, Stay()),
        ("unknown", 1, Stay()),
        ("unknown", 5, Over("its time is over")),
        ("ended", 1, Over("its VM has ended, and Google did not take it")),
    ],
)
def test_session_is_brought_up_again_only_when_google_took_its_vm(sight, began_h, found):
    """One that was idle, or ended by a user, must not come back at 53 dollars an hour."""
    assert after(sight, GRANT, [lived(began_h, None)], NOW) == found


def test_session_is_over_when_less_than_a_start_is_left_of_its_time():
    """Half an hour is what a start may take: nobody would be served."""
    found = after("taken", GRANT, [lived(3.75, None)], NOW)

    assert found == Over("Google took its VM, and 15 min of its time are left", True)


def test_session_is_over_when_its_budget_is_spent():
    found = after("taken", GRANT, [lived(2, None, usd_per_h=60)], NOW)

    assert found == Over("Google took its VM, and nothing of its budget is left", True)


def test_first_vm_lives_as_long_as_its_rung_says():
    """Also where that is short: the user has asked for it."""
    assert Grant(hours=0.2).hours_for(rung(), [], NOW) == pytest.approx(0.2)
    assert GRANT.hours_for(rung(usd_per_h=50), [], NOW) == pytest.approx(2)


def test_later_vm_lives_within_the_rest_whatever_its_rung_says():
    """A rung was priced before the walk began; hours may have gone by since."""
    lives = [lived(1, 0.5)]

    assert GRANT.hours_for(rung(usd_per_h=20), lives, NOW) == pytest.approx(3)
    assert GRANT.hours_for(rung(usd_per_h=45), lives, NOW) == pytest.approx(2)
    assert GRANT.hours_for(rung(usd_per_h=200), lives, NOW) == 0, "27 min: not worth a start"
    assert Grant(hours=4).hours_for(rung(), [lived(3.8, 3)], NOW) == 0


def test_place_that_was_taken_away_comes_last():
    """Google wanted it a minute ago; the others keep their order."""
    ladder = [rung(zone) for zone in ZONES[:3]]

    found = elsewhere(ladder, ladder[0].place)

    assert [r.place.zone for r in found] == [ZONES[1], ZONES[2], ZONES[0]]
