"""Rates: dated, sourced, for one place and model, or none at all."""

from dataclasses import replace
from datetime import date

import pytest

from mayfly.errors import WrongInputError
from mayfly.names import PROVISIONING
from mayfly.pricing import Rate, for_budget, known, lookup, parse, shipped, storage

ROW = {
    "machine": "a3-highgpu-8g",
    "provisioning": "spot",
    "place": "us-east4",
    "usd_per_h": 34,
    "source": "a catalogue",
    "date": "2026-06-01",
}


def rate(place: str, day: str, usd_per_h: float) -> Rate:
    return Rate(**{**ROW, "place": place, "date": day, "usd_per_h": usd_per_h})


def test_lookup_takes_the_zones_own_rate_before_its_regions():
    """Spot prices differ by a factor of four between zones."""
    rates = [rate("us-east5-a", "2026-06-01", 35), rate("us-east5", "2026-09-01", 40)]

    assert lookup("a3-highgpu-8g", "us-east5-a", "spot", rates).usd_per_h == 35
    assert lookup("a3-highgpu-8g", "us-east5-b", "spot", rates).usd_per_h == 40


def test_lookup_takes_the_newest_source_when_two_price_one_place():
    """One VM had four answers; the oldest was half the newest."""
    rates = [rate("us-central1", "2026-09-19", 52.96), rate("us-central1", "2026-06-15", 37.92)]

    assert lookup("a3-highgpu-8g", "us-central1-a", "spot", rates).usd_per_h == 52.96


@pytest.mark.parametrize(
    ("machine", "zone", "provisioning"),
    [
        ("a3-highgpu-8g", "asia-east1-a", "spot"),
        ("a3-highgpu-8g", "us-east4-a", "flex-start"),
        ("a2-ultragpu-8g", "us-east4-a", "spot"),
    ],
)
def test_lookup_is_none_when_no_source_prices_it(machine: str, zone: str, provisioning: str):
    """A neighbour's price is no price."""
    assert lookup(machine, zone, provisioning, [rate("us-east4", "2026-06-01", 34)]) is None


def test_budget_goes_by_the_highest_rate_that_is_fresh():
    """Four sources, four prices: the cheapest of them would let a session cost the double."""
    rates = [rate("us-east4", "2026-11-01", 40), rate("us-east4", "2026-11-20", 35)]
    old = rate("us-east4", "2026-06-01", 60)

    assert for_budget([*rates, old], date(2026, 11, 23)).usd_per_h == 40
    assert for_budget([old, rate("us-east4", "2026-06-02", 50)], date(2026, 11, 23)) is old
    assert for_budget([], date(2026, 11, 23)) is None


def test_budget_goes_by_the_live_price_when_google_tells_one():
    """Its own price in the user's own project is what will be billed."""
    live = replace(rate("us-east4-a", "2026-11-23", 30), live=True)

    found = for_budget([rate("us-east4", "2026-11-22", 60), live], date(2026, 11, 23))

    assert found is live


def test_known_holds_every_source_of_the_place_and_no_neighbours():
    """The range of a plan is what the sources say there, nothing else."""
    rates = [rate(place, "2026-06-01", 1) for place in ("us-east4", "us-east4-a", "us-east4-b")]

    found = known("a3-highgpu-8g", "us-east4-a", "spot", rates)

    assert {each.place for each in found} == {"us-east4", "us-east4-a"}


def test_storage_has_a_source_and_a_date():
    """The weights cost as long as they stay: a bare number would be believed."""
    assert all(row.source and date.fromisoformat(row.date) for row in storage())


def test_rate_warns_when_it_is_older_than_thirty_days():
    """An old rate is still the best there is; it must say so."""
    old = rate("us-east4", "2026-06-01", 34)

    assert old.warning(date(2026, 7, 1)) == ""
    warning = old.warning(date(2026, 7, 2))
    assert warning == "The rate 34.00 USD/h is 31 days old (a catalogue, 2026-06-01)."


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (26.83, "26.83 is a bare number"),
        ({**ROW, "source": ""}, "no source"),
        ({key: ROW[key] for key in ROW if key != "date"}, "no date"),
        ({**ROW, "date": "June 2026"}, "date 'June 2026'"),
        ({**ROW, "date": date(2026, 6, 1)}, "not a quoted ISO day"),
        ({**ROW, "usd_per_h": "34"}, "usd_per_h '34' is not a price"),
        ({**ROW, "usd_per_h": -1}, "usd_per_h -1"),
        ({**ROW, "usd_per_h": float("nan")}, "usd_per_h nan"),
        ({**ROW, "provisioning": "SPOT"}, "provisioning 'SPOT'"),
        ({**ROW, "zone": "a"}, "unknown key 'zone'"),
        ({**ROW, "live": True}, "unknown key 'live'"),
    ],
)
def test_table_is_refused_when_a_row_is_not_a_whole_rate(row: object, complaint: str):
    """A bare number would be believed long after it was wrong."""
    with pytest.raises(WrongInputError) as caught:
        parse({"rates": [ROW, row]}, "rates.yaml")

    assert str(caught.value).startswith("rates.yaml: row 2: ")
    assert complaint in str(caught.value)


@pytest.mark.parametrize("raw", [None, [], {"rates": []}, {"rates": {"a": 1}}])
def test_table_is_refused_when_it_holds_no_rates(raw: object):
    """An empty table would read as "nothing has a price"."""
    with pytest.raises(WrongInputError, match="needs a list `rates`"):
        parse(raw, "rates.yaml")


def test_shipped_table_prices_what_the_profiles_run_on():
    """Each machine a session or a seed starts on by default has a price somewhere."""
    priced = {(r.machine, r.provisioning) for r in shipped()}

    assert {("a3-highgpu-8g", model) for model in PROVISIONING} <= priced
    assert {("a2-ultragpu-8g", model) for model in PROVISIONING} <= priced
    assert lookup("n2-standard-8", "us-central1-a", "on-demand") is not None


def test_shipped_table_leaves_out_the_wrong_sku():
    """On-demand H100 rows below the spot price are a known slip of the catalogue."""
    for found in shipped():
        if found.provisioning != "on-demand":
            continue
        spot = lookup(found.machine, f"{found.place}-a", "spot")
        assert spot is None or found.usd_per_h > spot.usd_per_h, found
