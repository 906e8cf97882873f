"""The page that says what the ladder is worth: the product's own steps, and as committed."""

import pytest

from bench import ladder
from bench.ladder_patterns import Played, played
from bench.ladder_world import REGIMES, World
from local.rest import pattern
from mayfly import names, quota
from mayfly.capacity import classify
from mayfly.machines import ANY, MACHINES
from tests.conftest import ROOT

PAGE = ROOT / "docs/results/ladder.md"
FOUND = ladder.places()
PLACES = tuple(r.place for r in FOUND)
TIGHT = next(r for r in REGIMES if r.name == "tight")
FULL, RANKED, BLIND, STUBBORN = ladder.WAYS


def test_page_is_what_the_command_makes():
    """A table that nobody can make again is a claim."""
    assert PAGE.read_text() == ladder.page()


def test_page_says_that_it_is_no_measurement():
    """Made patterns read as Google's own would be a lie about every user's wait."""
    words = " ".join(PAGE.read_text().split())

    assert "A simulation on made patterns, not a measurement" in words
    assert "Assumed" in words
    assert "none comes with mayfly" in words
    assert [r.rate.source for r in FOUND if r.rate.source not in words] == []


def test_world_is_the_same_for_every_way_when_the_trial_is():
    """Otherwise the rows would compare luck."""
    first, again, other = (World(TIGHT, PLACES, n) for n in (1, 1, 2))
    looks = [[w.has_room(p, m) for p in PLACES for m in range(60)] for w in (first, again, other)]

    assert looks[0] == looks[1] != looks[2]


def test_world_has_room_for_about_its_share_of_the_time():
    """The title of a pattern is a promise too."""
    worlds = [World(TIGHT, PLACES, trial) for trial in range(20)]
    looks = [w.has_room(p, m) for w in worlds for p in PLACES for m in range(0, 240, 20)]

    assert sum(looks) / len(looks) == pytest.approx(TIGHT.share, abs=0.05)


def test_world_answers_as_google_does_when_it_has_no_room():
    """What is walked is the product's reading of errors, not a yes or no."""
    world = World(TIGHT, PLACES, 0)
    answers = [world.ask(p, 0.0) for p in PLACES]
    verdicts = [classify(a) for a in answers if a]

    assert {v.action for v in verdicts} == {"next_zone"}
    assert any(v.zones for v in verdicts)
    assert any(a is None for a in answers)


def test_search_ends_when_there_is_no_room_anywhere():
    """Two hours, as `--retry-for 2h` says; and one zone is asked in that one only."""
    none = World(next(r for r in REGIMES if r.only), (PLACES[-1],), 0)
    none._turns[PLACES[-1]].clear()

    ends = [ladder.search(way, none, (FOUND[-1],)) for way in (RANKED, BLIND, STUBBORN)]

    assert not any(end.landed for end in ends)
    assert all(100 < end.minutes < 140 for end in ends)


EVERYWHERE = tuple(r.place for r in ladder.places(provisioning=ANY))


@pytest.mark.parametrize("one", played(), ids=lambda one: one.name)
def test_pattern_has_room_where_and_when_the_local_cloud_has(one):
    """The page speaks of the files that the local cloud plays, not of its own reading of them."""
    theirs = pattern.load(one.name)
    looks = [(place, minute / 2) for place in EVERYWHERE for minute in range(120)]

    def row(place):
        model = names.PROVISIONING[place.provisioning]
        return theirs.row(place.zone, place.machine, model, MACHINES[place.machine].gpus)

    differ = [(p, m) for p, m in looks if one.has_room(p, m) != row(p).has_room(m)]
    assert differ == []


def test_pattern_refuses_nobody_when_its_quota_is_unlimited():
    """-1 is how Google writes "no limit", not fewer than none."""
    free = Played("free", {"says": "x", "quotas": {quota.ALL_GPUS: quota.UNLIMITED}})

    assert free.ask(PLACES[0], 0) is None


def test_patterns_with_faults_are_no_part_of_the_page():
    """A walk in minutes cannot play them."""
    shown = {one.name for one in played()}

    assert shown < set(pattern.names())
    assert "made-though-503" not in shown
    assert "nothing-anywhere" in shown
