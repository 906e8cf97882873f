"""The plan's promises: nothing joins the modes, no figure without its basis, no price unsourced."""

import json
from datetime import date

import pytest

from mayfly import profile
from mayfly.commands import plan as command
from mayfly.commands import plan_all
from mayfly.measured import find
from mayfly.modes import MODES, Limits
from mayfly.plan import plan
from mayfly.plan_ask import Ask
from mayfly.pricing import Rate
from tests.conftest import ROOT

PAGE = ROOT / "docs/results/fits.md"


def planned(name="kimi-k2.5", machine="a3-highgpu-8g", **more):
    return plan(Ask(profile=profile.load(name), machine=machine, **more))


def test_plan_gives_each_mode_its_own_figures_when_it_fits():
    """The two modes exclude each other: context of one with the speed of the other is a lie."""
    modes = planned()["modes"]

    assert set(modes) == {"fast", "long"}
    assert modes["fast"]["context_parallel"] == 1
    assert modes["fast"]["speed"]["tok_s_per_request"]["1"] > 100
    assert modes["long"]["max_context"] == 262_144
    assert modes["long"]["speed"]["tok_s_per_request"] is None


@pytest.mark.parametrize("mode", MODES)
def test_plan_repeats_the_chosen_mode_at_the_top(mode):
    """Who reads only the top must read one mode."""
    whole = planned(mode=mode)

    for key in ("max_context", "kv_gib_per_gpu", "kv_tokens", "flags", "max_concurrency"):
        assert whole[key] == whole["modes"][mode][key]


def test_speed_says_what_it_leaves_out_when_it_is_one_ranks():
    """A rank knows nothing of the traffic between eight."""
    basis = planned()["modes"]["fast"]["speed"]["basis"]

    assert "one of 8 ranks alone" in basis
    assert "no all-reduce" in basis
    assert "docs/results/raw" in basis


def test_speed_is_no_figure_when_nobody_measured_the_layout():
    """Neither a neighbour's GPU nor another degree of parallelism."""
    assert find("kimi-k2.5.json", "A100 80GB", 8, 1) is None
    assert find("kimi-k2.5.json", "H100 80GB", 8, 8) is None
    assert planned(machine="a2-ultragpu-8g")["modes"]["fast"]["speed"]["tok_s_per_request"] is None


def test_mode_long_says_what_sharing_the_context_cost_elsewhere_when_it_has_no_figure():
    """A price in percent is its own mode's: no speed of mode fast stands beside it."""
    basis = planned()["modes"]["long"]["speed"]["basis"]

    assert basis.startswith("not measured on 8 x H100 80GB; elsewhere sharing the context out")
    assert "13 % with 1, 23 % with 8 at a time" in basis
    assert "2 x H200, 12 of the 61 layers" in basis


def test_measurements_point_at_logs_that_are_there():
    """A figure without its raw log is a rumour."""
    source = find("kimi-k2.5.json", "H100 80GB", 8, 1).source.partition(" ")[0]

    assert (ROOT / source / "results.jsonl").is_file()


def test_price_has_source_and_deadline_when_the_zone_is_priced():
    """The total is what a forgotten session costs at most."""
    whole = planned()

    assert whole["usd_per_hour"] == 52.96
    assert whole["rate_source"]
    assert whole["rate_date"] == "2026-09-19"
    assert whole["deadline_hours"] == 4
    assert whole["total_usd"] == pytest.approx(211.84)


def test_budget_ends_the_session_sooner_when_it_buys_less():
    """The smaller of the two, as in the settings of a session."""
    whole = planned(budget_usd=52.96, hours=10)

    assert whole["deadline_hours"] == 1
    assert whole["total_usd"] == pytest.approx(52.96)


def test_price_shows_the_range_when_the_sources_contradict_each_other():
    """Four answers for one VM: whoever sees only one of them plans with a guess."""
    whole = planned()

    assert whole["usd_per_hour_range"] == [37.92, 52.96]
    assert whole["total_usd_range"] == [pytest.approx(4 * 37.92), pytest.approx(4 * 52.96)]
    assert whole["weights"]["usd_per_month"] == pytest.approx(11.08, abs=0.05)


def test_price_says_that_it_is_old_when_it_is_older_than_30_days():
    """June's price is half of November's for one and the same VM."""
    today = planned(today=date(2026, 11, 23))
    fresh = planned(today=date(2026, 10, 1))

    assert today["rate_warning"].startswith("The rate 52.96 USD/h is 65 days old")
    assert fresh["rate_warning"] is None


def test_budget_buys_no_more_than_the_highest_known_rate_allows():
    """What it will cost is not known to the dollar; what it may cost is."""
    live = Rate(
        usd_per_h=60.0,
        source="Google's price history",
        date="2026-11-23",
        place="us-central1-a",
        machine="a3-highgpu-8g",
        provisioning="spot",
        live=True,
    )
    by_table = planned(budget_usd=100.0)
    by_google = planned(budget_usd=100.0, live_rates=[live])

    assert by_table["total_usd_range"][1] == pytest.approx(100, abs=0.01)
    assert by_table["budget_rate"]["usd_per_hour"] == 52.96
    assert by_google["budget_rate"]["usd_per_hour"] == by_google["usd_per_hour"] == 60
    assert by_google["deadline_hours"] == pytest.approx(1.67)


def test_price_is_unknown_when_no_source_names_the_place():
    """A neighbour's price is not this zone's."""
    whole = planned("qwen3-4b", "g2-standard-8")

    assert (whole["usd_per_hour"], whole["total_usd"]) == (None, None)
    (other,) = whole["other_rates"]
    assert (other["provisioning"], other["usd_per_hour"]) == ("on-demand", 0.8536)


def test_plan_names_the_nearest_machine_when_this_one_is_too_small():
    """The smallest change that fits, as a command to paste."""
    whole = planned(machine="a2-highgpu-8g")

    assert not whole["fits"]
    assert whole["nearest"]["machine"] == "a2-ultragpu-8g"
    assert whole["nearest"]["command"] == (
        "mayfly plan kimi-k2.5 --machine a2-ultragpu-8g --mode fast"
    )


def test_plan_drops_the_wish_before_the_machine_when_the_wish_is_refused():
    """fp8 KV on A100 is refused; the A100 itself is not."""
    whole = planned(machine="a2-ultragpu-8g", limits=Limits(kv_dtype="fp8"))

    assert "8.9" in whole["reasons"][0]
    assert whole["nearest"]["machine"] == "a2-ultragpu-8g"


def test_plan_says_how_many_machines_when_none_holds_the_model():
    """Kimi K3 is larger than any one of them."""
    near = planned("kimi-k3")["nearest"]

    assert (near["machines"], near["machine"]) == (2, "a3-ultragpu-8g")
    assert near["command"] == ("mayfly plan kimi-k3 --machine a3-ultragpu-8g --nodes 2 --mode fast")


def test_page_of_all_fits_is_what_the_command_prints(capsys):
    """A page that drifts from the planner promises machines that do not hold."""
    plan_all.run(as_json=False)

    assert capsys.readouterr().out == PAGE.read_text()


def test_page_of_all_fits_joins_no_modes():
    """One table a mode: the full context of one must not stand beside figures of the other."""
    fast, _, long = PAGE.read_text().partition("## Mode long")

    assert fast.count("| profile |") == long.count("| profile |") == 2
    assert "262,144" not in fast
    assert "262,144" in long


def test_every_fit_as_data_holds_each_profile_on_each_machine(capsys):
    """Nobody is left out of the table."""
    plan_all.run(as_json=True)
    rows = json.loads(capsys.readouterr().out)

    for mode in MODES:
        assert {row["profile"] for row in rows[mode]} == set(profile.names())
        assert len(rows[mode]) == len(profile.names()) * len({r["machine"] for r in rows[mode]})


def test_page_of_all_fits_shows_context_against_concurrency_by_mode():
    """Each mode's table by itself: more requests of a short context, fewer of a long one."""
    page = PAGE.read_text()
    fast, long = (page.index(f"### Mode {mode}: {plan_all.FRONTIER}") for mode in MODES)

    assert "| kimi-k2.5 | a3-highgpu-8g | 11 | 5 | 2 | 1 |" in page[fast:long]
    assert "| kimi-k2.5 | a3-highgpu-8g | 8 | 8 | 8 | 8 | 6 | 3 | 1 |" in page[long:]


def test_picture_has_longer_bars_when_more_requests_fit():
    """A picture that is drawn upside down is worse than none."""
    lines = command.picture([[1024, 40], [32_768, 1], [65_536, 0]])

    assert [line.count("#") for line in lines] == [32, 1, 0]
    assert lines[0].startswith("    1K")
