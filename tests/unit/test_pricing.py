"""Rates: dated, sourced, for one place and model, or none at all."""

from datetime import date

import pytest

from mayfly.errors import WrongInputError
from mayfly.names import PROVISIONING
from mayfly.pricing import Rate, lookup, parse, shipped

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
