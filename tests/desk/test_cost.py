"""`mayfly cost` answers: what did it cost, and for whom?"""

import csv
import io
import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mayfly import cli, pricing
from mayfly.ledger import Record, cost_usd
from tests.desk.google import PROJECT, Google

BUCKET = f"{PROJECT}-mayfly-state"
RECORD = Record(
    instance_id="1",
    vm="mayfly-dev",
    zone="us-east5-a",
    layer="session",
    session="dev",
    profile="kimi-k2.5",
    started_by="ann@example.com",
    machine="a3-highgpu-8g",
    provisioning="spot",
    created="2026-10-31T23:00:00Z",
    ended="2026-11-01T01:00:00Z",
    seconds=7200,
    usd_per_h=20.0,
    rate_source="a source",
    rate_date="2026-06-01",
    usd=40.0,
    ended_by="reaper",
    reason="idle for 20 min",
    timeline=({"stage": "driver", "start": None, "end": None, "bytes": None, "ok": True},),
)
LIVES = (
    RECORD,
    replace(RECORD, instance_id="2", session="b", started_by="bob@example.com", usd=2.5, seconds=9),
    replace(RECORD, instance_id="3", created="2026-11-02T00:00:00Z", usd=None, usd_per_h=None),
    replace(RECORD, instance_id="4", session="b", created=None, profile=None, seconds=0, usd=0),
)


@pytest.fixture
def ledger(google: Google, checkout: Path) -> Google:
    """A bucket with four lives in it."""
    for record in LIVES:
        google.objects[BUCKET, f"ledger/{record.instance_id}.json"] = record.to_json()
    return google


def said(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert cli.main(["cost", *words]) == 0
    return capsys.readouterr().out


def test_cost_sums_by_session_user_profile_and_month(ledger: Google, capsys):
    """Whose bill is it? Every dollar is in each of the four tables once."""
    told = json.loads(said(capsys, "--json"))

    total = {"vms": 4, "seconds": 14409, "usd": 42.5, "unknown": 1}
    assert (told["project"], told["bucket"], told["total"]) == (PROJECT, BUCKET, total)
    by = {g: {row["name"]: row["usd"] for row in told[f"by_{g}"]} for g in ("session", "user")}
    assert by == {
        "session": {"dev": 40.0, "b": 2.5},
        "user": {"ann@example.com": 40.0, "bob@example.com": 2.5},
    }
    months = [(row["name"], row["usd"], row["unknown"]) for row in told["by_month"]]
    assert months == [(None, 0, 0), ("2026-10", 42.5, 0), ("2026-11", 0, 1)]
    assert [row["name"] for row in told["by_profile"]] == ["kimi-k2.5", None]
    for group in ("session", "user", "profile", "month"):
        assert sum(row["usd"] for row in told[f"by_{group}"]) == 42.5
        assert sum(row["vms"] for row in told[f"by_{group}"]) == 4


def test_cost_shows_the_records_with_their_timelines_as_json(ledger: Google, capsys):
    """Why was it slow, why did it end: the sums do not say, the records do."""
    records = json.loads(said(capsys, "--json"))["records"]

    assert [record["instance_id"] for record in records] == ["4", "1", "2", "3"], "oldest first"
    assert records[1]["timeline"][0]["stage"] == "driver"
    assert (records[1]["rate_source"], records[1]["rate_date"]) == ("a source", "2026-06-01")


def test_cost_prints_a_line_a_vm_as_csv(ledger: Google, capsys):
    """For a spreadsheet: what is not known is an empty cell."""
    rows = list(csv.DictReader(io.StringIO(said(capsys, "--csv"))))

    assert [row["usd"] for row in rows] == ["0", "40.0", "2.5", ""]
    assert rows[1]["reason"] == "idle for 20 min"
    assert "timeline" not in rows[1]


def test_csv_holds_no_formula_when_a_vm_named_itself_one(ledger: Google, capsys):
    """Whoever writes a VM's metadata must not run something in the accountant's sheet."""
    hostile = replace(RECORD, instance_id="5", profile="=HYPERLINK(0)")
    ledger.objects[BUCKET, "ledger/5.json"] = hostile.to_json()

    rows = list(csv.DictReader(io.StringIO(said(capsys, "--csv"))))

    assert [row["profile"] for row in rows if row["instance_id"] == "5"] == ["'=HYPERLINK(0)"]


def test_cost_says_what_it_does_not_know(ledger: Google, capsys):
    """A sum that leaves a VM out must not look complete."""
    text = said(capsys)

    assert "$42.50 for 4 VMs" in text
    assert "1 of them ran at no known rate" in text
    for name in ("dev", "ann@example.com", "kimi-k2.5", "2026-10"):
        assert name in text


def test_cost_says_so_when_nothing_has_ended(google: Google, checkout, capsys):
    """An empty table would look like a fault."""
    assert f"there is no record in gs://{BUCKET}" in said(capsys)
    assert json.loads(said(capsys, "--json"))["total"]["vms"] == 0


def test_cost_reads_the_bucket_that_the_stacks_name(ledger: Google, checkout: Path, capsys):
    """The state may lie in a bucket of another name."""
    (checkout / "Pulumi.foundation.yaml").write_text("config:\n  mayfly:stateBucket: elsewhere\n")

    assert "no record in gs://elsewhere" in said(capsys)


def test_cost_names_the_record_that_cannot_be_read(ledger: Google, capsys):
    """A sum without it would be wrong, and nobody would know."""
    ledger.objects[BUCKET, "ledger/5.json"] = b"{"

    assert cli.main(["cost", "--json"]) == 1

    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"gs://{BUCKET}/ledger/5.json: not JSON" in captured.err
    assert f"Try: gcloud storage cat gs://{BUCKET}/ledger/5.json" in captured.err


def test_cost_shows_one_month_when_it_is_asked_for(ledger: Google, capsys):
    """A bill is a month's."""
    told = json.loads(said(capsys, "--month", "2026-10", "--json"))

    assert [record["instance_id"] for record in told["records"]] == ["1", "2"]
    assert told["total"]["usd"] == 42.5
    assert "No VM that began in 2025-01 has ended yet" in said(capsys, "--month", "2025-01")


@pytest.mark.parametrize("month", ["2026-99", "2026-00", "2026-1", "november", "2026-11-01"])
def test_cost_refuses_what_is_no_month(ledger: Google, capsys, month):
    """An empty table for a typo would read as "nothing was spent"."""
    assert cli.main(["cost", "--month", month]) == 2
    assert f"--month {month}: it must be a year and a month." in capsys.readouterr().err


def test_cost_says_what_its_rates_rest_on(ledger: Google, capsys):
    """A dollar without its source is a guess."""
    assert "rates: a source, 2026-06-01" in said(capsys)


def test_cost_of_a_month_is_the_ledgers_seconds_times_the_dated_rates(
    google: Google, checkout, capsys
):
    """The sum on the page is arithmetic, to the cent, over a month of sessions and their ends."""
    chance = random.Random(11)
    by_hand = {"2026-10": 0.0, "2026-11": 0.0}
    for number in range(120):
        rate = chance.choice(pricing.shipped())
        began = datetime(2026, 10, 16, tzinfo=UTC) + timedelta(hours=chance.uniform(0, 31 * 24))
        seconds = chance.choice([0.0, chance.uniform(60, 14400)])
        life = replace(
            RECORD,
            instance_id=str(number),
            session=chance.choice(["dev", "night", "agents"]),
            started_by=chance.choice(["ann@example.com", "bob@example.com"]),
            machine=rate.machine,
            provisioning=rate.provisioning,
            created=began.strftime("%Y-%m-%dT%H:%M:%SZ"),
            seconds=seconds,
            usd_per_h=rate.usd_per_h,
            rate_source=rate.source,
            rate_date=rate.date,
            usd=cost_usd(seconds, rate.usd_per_h),
        )
        google.objects[BUCKET, f"ledger/{number}.json"] = life.to_json()
        by_hand[began.strftime("%Y-%m")] += seconds * rate.usd_per_h / 3600

    for month, usd in by_hand.items():
        told = json.loads(said(capsys, "--month", month, "--json"))
        rows = list(csv.DictReader(io.StringIO(said(capsys, "--month", month, "--csv"))))
        written = sum(float(row["seconds"]) / 3600 * float(row["usd_per_h"]) for row in rows)

        assert told["total"]["usd"] == pytest.approx(usd, abs=0.001)
        assert written == pytest.approx(usd, abs=0.001)
        assert f"${usd:.2f} for {len(rows)} VMs" in said(capsys, "--month", month)
        for group in ("session", "user", "profile", "month"):
            assert sum(row["usd"] for row in told[f"by_{group}"]) == pytest.approx(usd, abs=0.001)


def test_cost_refuses_two_formats_at_once(checkout, capsys):
    """Half of the output would break whatever reads it."""
    assert cli.main(["cost", "--json", "--csv"]) == 2
    assert "--json and --csv at once" in capsys.readouterr().err
