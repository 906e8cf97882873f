"""Where to ask, in which order: the first place asked is mostly the one that is paid for."""

import itertools

import pytest

from mayfly import pricing, profile
from mayfly.ladder.rungs import (
    ATTEMPT_USD,
    EGRESS_USD_PER_GB,
    UNKNOWN_OBTAINABILITY,
    Question,
    rank,
    rungs,
)
from mayfly.machines import MACHINES
from tests.unit.ladders import ZONES, rung

KIMI = profile.load("kimi-k2.5")
ANY = ("spot", "flex-start", "on-demand")


def wanted(**more):
    given = {
        "profile": KIMI,
        "regions": ("us-central1", "us-east4", "europe-north1"),
        "weights_region": "us-central1",
    }
    return Question(**(given | more))


def test_rungs_hold_every_place_that_is_priced_and_allowed_when_nothing_is_fixed():
    """A place that is forgotten is capacity that nobody asks for."""
    kept, left = rungs(wanted(provisioning=ANY))

    places = {r.place for r in kept} | {item.place for item in left}
    everywhere = {
        (machine, zone, model)
        for machine in KIMI.machines
        for zone in MACHINES[machine].zones
        for model in MACHINES[machine].provisioning
    }
    assert {(p.machine, p.zone, p.provisioning) for p in places} == everywhere
    assert len(kept) + len(left) == len(everywhere)
    assert {r.place.machine for r in kept} == {"a3-highgpu-8g", "a2-ultragpu-8g"}


def test_rungs_are_sorted_by_rate_hours_and_egress_when_no_advice_is_known():
    """A zone abroad at a quarter of the price is worth a pull of the weights, not at any life."""
    kept, _ = rungs(wanted(machines=("a3-highgpu-8g",)))
    first = kept[0]

    assert first.place.zone == "europe-north1-c"
    assert first.egress_usd == pytest.approx(595.15 * EGRESS_USD_PER_GB)
    assert first.usd == pytest.approx(10.3 * 4 + 595.15 * EGRESS_USD_PER_GB)
    assert [r.usd for r in kept] == sorted(r.usd for r in kept)
    assert all(r.egress_usd == 0 for r in kept if r.place.region == "us-central1")


def test_rungs_prefer_the_weights_region_when_the_life_is_short():
    """Twelve dollars of egress are much for an hour, little for a day."""
    rates = pricing.parse(
        {
            "rates": [
                {
                    "machine": "a3-highgpu-8g",
                    "provisioning": "spot",
                    "place": place,
                    "usd_per_h": usd,
                    "source": "a test",
                    "date": "2026-11-01",
                }
                for place, usd in (("us-central1", 40), ("us-east4", 36))
            ]
        },
        "a test",
    )
    one = {"machines": ("a3-highgpu-8g",), "rates": rates}

    short, _ = rungs(wanted(hours=1, **one))
    long, _ = rungs(wanted(hours=24, **one))

    assert short[0].place.region == "us-central1"
    assert long[0].place.region == "us-east4"


def test_rank_pays_least_in_expectation_when_the_first_success_is_taken():
    """The proof by hand: no other order of these has a lower expected cost."""
    some = [
        rung(ZONES[n], usd_per_h=usd, obtainability=chance)
        for n, (usd, chance) in enumerate([(1.0, 0.1), (2.0, 0.9), (1.5, 0.5), (1.2, 0.3)])
    ]

    def expected(order):
        total, reached = 0.0, 1.0
        for r in order:
            total += reached * (ATTEMPT_USD + r.obtainability * r.usd)
            reached *= 1 - r.obtainability
        return total + reached * 100  # what it costs to get nothing, the same for all

    best = min(itertools.permutations(some), key=expected)

    assert expected(rank(some)) == pytest.approx(expected(best))


def test_advice_moves_a_rung_down_when_its_zone_has_hardly_room():
    """A dollar an hour cheaper is nothing where one attempt in fifty succeeds."""
    advice = {("a2-ultragpu-8g", "us-central1-a"): 0.02, ("a2-ultragpu-8g", "us-central1-c"): 0.9}

    kept, _ = rungs(wanted(machines=("a2-ultragpu-8g",), obtainability=advice))
    by_zone = {r.place.zone: r for r in kept}

    assert kept.index(by_zone["us-central1-c"]) < kept.index(by_zone["us-central1-a"])
    assert by_zone["us-east4-c"].obtainability is None
    unknown = by_zone["us-east4-c"]
    assert unknown.index == pytest.approx(unknown.usd + ATTEMPT_USD / UNKNOWN_OBTAINABILITY)


def test_advice_of_zero_puts_a_place_last_when_others_are_unknown():
    """Zero is the clearest word that there is, not the lack of one."""
    some = [rung(ZONES[0], usd_per_h=1.0, obtainability=0.0), rung(ZONES[1], usd_per_h=20.0)]

    assert [r.place.zone for r in rank(some)] == [ZONES[1], ZONES[0]]


def test_advice_says_nothing_of_other_models_when_it_is_for_spot():
    """Google's advice is for Spot only."""
    advice = {("a2-ultragpu-8g", "us-central1-a"): 0.02}

    kept, _ = rungs(wanted(machines=("a2-ultragpu-8g",), provisioning=ANY, obtainability=advice))

    chances = {r.place.provisioning: r.obtainability for r in kept if r.obtainability}
    assert chances == {"spot": 0.02}


@pytest.mark.parametrize(
    ("given", "place", "why"),
    [
        ({"regions": ("us-central1",)}, "us-east4-a", "the foundation has no subnet in us-east4"),
        ({"max_hourly_usd": 30.0}, "us-central1-a", "52.96 USD/h is above --max-hourly"),
        ({"budget_usd": 10.0}, "us-central1-a", "--budget buys 11 min of it"),
        ({"provisioning": ("on-demand",)}, "europe-north1-c", "no source prices it"),
    ],
)
def test_place_is_left_out_with_its_reason_when_it_is_not_allowed(given, place, why):
    """`--dry-run` shows these: who wonders about a zone must not read the code."""
    _, left = rungs(wanted(machines=("a3-highgpu-8g",), **given))

    assert why in {item.why for item in left if item.place.zone == place}


def test_place_is_left_out_when_the_profile_does_not_fit_the_machine(monkeypatch):
    """A VM that cannot load the model costs an hour's rate to find out."""
    small = profile.load("qwen3-4b")
    machine = next(iter(small.machines))
    huge = type("Huge", (), {"machines": {machine: {}}, "choose": KIMI.choose, "size_gb": 595.0})()

    kept, left = rungs(wanted(profile=huge, machines=(machine,)))

    assert not kept
    assert all("does not fit" in item.why for item in left if "subnet" not in item.why)


def test_budget_shortens_the_life_when_it_buys_less_than_the_hours():
    """The deadline is written with the price: what is ranked is what can be spent."""
    kept, _ = rungs(wanted(machines=("a3-highgpu-8g",), budget_usd=53.0, zones=("us-central1-a",)))

    assert [round(r.hours, 2) for r in kept] == [1.0]
    assert kept[0].usd == pytest.approx(53.0, rel=0.01)
