"""A stack's configuration: what is taken, what is refused, and in which words."""

import subprocess
import sys

import pytest
import yaml

from mayfly import settings
from mayfly.config import KEYS
from mayfly.settings import ConfigError, FoundationSettings, SeedSettings, SessionSettings
from tests.conftest import ROOT

RATE = {"hourlyUsd": "50", "rateSource": "a price page", "rateDate": "2026-09-19"}


def session(**more: str) -> SessionSettings:
    parsed = settings.parse({**RATE, **more}, stack="dev", project="proj-1")
    assert isinstance(parsed, SessionSettings)
    return parsed


def problems(stack: str = "dev", project: str | None = "proj-1", **raw: str) -> dict[str, str]:
    """Key -> problem line, of a configuration that must be refused."""
    with pytest.raises(ConfigError) as caught:
        settings.parse({**RATE, **raw}, stack=stack, project=project)
    return {problem.key: str(problem) for problem in caught.value.problems}


def test_session_takes_defaults_when_only_the_rate_is_set():
    """The shortest configuration must be a safe one: spot, twenty idle minutes, four hours."""
    parsed = session()

    assert (
        parsed.vm.zone,
        parsed.vm.machine,
        parsed.vm.provisioning,
        parsed.mode,
    ) == ("us-central1-a", "a3-highgpu-8g", "spot", "fast")
    limits = parsed.vm.limits
    assert (
        limits.idle_s,
        limits.start_s,
        limits.failed_s,
        limits.heartbeat_s,
        limits.max_life_s,
    ) == (1200, 1800, 300, 300, 14_400)
    assert not parsed.vm.allow_replace
    assert not parsed.node_internet
    assert parsed.vm.state_bucket == "proj-1-mayfly-state"


def test_session_takes_fractions_when_a_duration_has_one():
    """Half a minute is what a rehearsal of the idle rule needs."""
    assert session(idleMinutes="0.5").vm.limits.idle_s == 30


@pytest.mark.parametrize(
    ("more", "life_s"),
    [
        ({"maxHours": "2"}, 7200),
        ({"maxHours": "2", "budgetUsd": "25"}, 1800),
        ({"maxHours": "0.25", "budgetUsd": "25"}, 900),
        ({"maxHours": "2", "budgetUsd": "100"}, 7200),
        ({"maxHours": "2", "budgetUsd": "0.42"}, 30),
        ({"maxHours": "9999", "budgetUsd": "25"}, 1800),
        ({"maxHours": "2880"}, 10_368_000),
        ({"maxHours": "168", "provisioning": "flex-start"}, 604_800),
        ({"maxHours": "0.0333"}, 119),
        ({"maxHours": "2", "budgetUsd": "25", "maxRunSeconds": "5000"}, 5000),
    ],
)
def test_life_is_the_smaller_of_time_and_money_when_both_are_set(more, life_s):
    """At $50 an hour $25 buy 30 minutes; what was written at launch is never computed again."""
    assert life_s == session(**more).vm.limits.max_life_s


@pytest.mark.parametrize(
    ("more", "key", "words"),
    [
        ({"maxHours": "0.001"}, "mayfly:maxHours", "a life of 3 s"),
        ({"maxHours": "0.00833"}, "mayfly:maxHours", "a life of 29 s"),
        ({"maxHours": "1e308"}, "mayfly:maxHours", "30 to 10368000"),
        ({"maxHours": "2880.001"}, "mayfly:maxHours", "a life of 10368003 s"),
        ({"maxHours": "168.1", "provisioning": "flex-start"}, "mayfly:maxHours", "605160 s"),
        ({"maxRunSeconds": "1e400"}, "mayfly:maxRunSeconds", "above 0"),
        ({"budgetUsd": "0.1"}, "mayfly:budgetUsd", "a life of 7 s"),
        ({"maxRunSeconds": "29"}, "mayfly:maxRunSeconds", "30 to 10368000"),
        ({"maxHours": "200", "provisioning": "flex-start"}, "mayfly:maxHours", "30 to 604800"),
    ],
)
def test_life_is_refused_when_google_would_not_take_it(more, key, words):
    """Google answers 400 to such a VM only after everything else is decided."""
    assert words in problems(**more)[key]


@pytest.mark.parametrize(
    ("key", "value", "valid"),
    [
        ("layer", "kernel", "foundation, seed, session"),
        ("profile", "no-such-model", "kimi-k2.5, kimi-k2.5-int4, kimi-k2.6"),
        ("machine", "tpu-8", "a3-highgpu-8g, a2-ultragpu-8g"),
        ("zone", "nowhere-1", "us-central1-a"),
        ("provisioning", "cheap", "spot, flex-start, on-demand"),
        ("mode", "slow", "fast, long"),
        ("idleMinutes", "-3", "above 0"),
        ("idleMinutes", "soon", "above 0"),
        ("startMinutes", "nan", "above 0"),
        ("failedMinutes", "inf", "above 0"),
        ("heartbeatMinutes", "0", "above 0"),
        ("maxHours", "", "above 0"),
        ("budgetUsd", "-5", "above 0"),
        ("maxRunSeconds", "1h", "above 0"),
        ("hourlyUsd", "free", "above 0"),
        ("rateDate", "19.9.2026", "YYYY-MM-DD"),
        ("localPort", "80000", "1 to 65535"),
        ("nodeInternet", "yes", "true, false"),
        ("allowReplace", "maybe", "true, false"),
    ],
)
def test_value_is_refused_with_key_value_and_valid_ones_when_it_is_wrong(key, value, valid):
    """Who reads the message must be able to mend it without opening a page."""
    line = problems(**{key: value})[f"mayfly:{key}"]

    assert valid in line
    assert (repr(value) if value else "not set") in line


def test_zone_is_refused_when_the_machine_is_not_sold_there():
    """The zone exists, which makes Google's own message about it all the more puzzling."""
    line = problems(zone="us-central1-b", machine="a2-ultragpu-8g")["mayfly:zone"]

    assert "us-central1-b" in line
    assert "us-central1-c" in line


def test_provisioning_is_refused_when_the_machine_is_not_sold_so():
    """Less than a whole H100 host has no on-demand price: Google would refuse it after all else."""
    more = {"profile": "qwen3-4b", "machine": "a3-highgpu-1g", "provisioning": "on-demand"}
    line = problems(**more)["mayfly:provisioning"]

    assert "Valid: spot, flex-start." in line


@pytest.mark.parametrize("layer", ["session", "seed"])
def test_profile_is_refused_when_no_machine_holds_the_model(layer):
    """Kimi K3: 1.5 TB in a bucket, or a VM, for nothing."""
    line = problems(layer=layer, profile="kimi-k3")["mayfly:profile"]

    assert "No machine holds it: see mayfly plan kimi-k3." in line


def test_unknown_key_is_refused_when_it_is_misspelt():
    """`idelMinutes` would leave the user with the default and a false sense of safety."""
    line = problems(idelMinutes="5")["mayfly:idelMinutes"]

    assert "No such key" in line
    assert "idleMinutes" in line


def test_every_problem_is_told_at_once_when_there_are_many():
    """One message a mistake would be one `up` a mistake."""
    with pytest.raises(ConfigError) as caught:
        settings.parse(
            {"zone": "nowhere-1", "idleMinutes": "-1", "strange": "1"}, stack="Dev_", project=None
        )

    text = str(caught.value)
    for part in ("gcp:project", "Dev_", "nowhere-1", "-1", "strange", "hourlyUsd", "rateSource"):
        assert part in text
    assert "Nothing was created; nothing is billed." in text
    assert caught.value.exit_code == 2


def test_rate_is_refused_when_it_comes_without_source_and_date():
    """A bare number is believed long after it has become wrong."""
    with pytest.raises(ConfigError) as caught:
        settings.parse({"hourlyUsd": "50"}, stack="dev", project="proj-1")

    assert {"mayfly:rateSource", "mayfly:rateDate"} == {p.key for p in caught.value.problems}
    assert "Try: pulumi config set mayfly:rateSource" in str(caught.value)


def test_second_session_is_told_a_command_that_works_when_nothing_configured_it():
    """`pulumi stack init evening` writes no rate, and nobody knows one by heart."""
    with pytest.raises(ConfigError) as caught:
        settings.parse({}, stack="evening", project="proj-1")

    assert str(caught.value).endswith("Try: pulumi config cp --stack dev --dest evening")


@pytest.mark.parametrize("name", ["Bad_Name", "1st", "a" * 42, "ends-", "x.y", ""])
def test_session_name_is_refused_when_it_cannot_be_a_vm(name):
    """Google would refuse `mayfly-<name>` after the plan was accepted."""
    assert "a letter, then" in problems(stack=name)["session name"]


def test_every_problem_is_told_when_the_profile_is_unknown_too():
    """One message, not one a try: what does not hang on the profile is read without it."""
    found = problems(
        profile="kimi-9", zone="mars-1", maxHours="-3", mode="slow", localPort="x", idleMinutes="?"
    )

    keys = ("profile", "zone", "maxHours", "mode", "localPort", "idleMinutes")
    assert set(found) == {f"mayfly:{key}" for key in keys}


@pytest.mark.parametrize(
    ("raw", "remedy"),
    [
        ({"stack": "Dev_1"}, "Try: pulumi stack rename NAME --stack Dev_1"),
        ({"zone": "mars-1"}, "Try: pulumi config set mayfly:zone VALUE --stack dev"),
        ({"zoen": "x"}, "Try: pulumi config rm mayfly:zoen --stack dev"),
    ],
)
def test_wrong_configuration_is_told_with_a_command(raw, remedy):
    """The last line is one to paste."""
    stack = raw.pop("stack", "dev")
    with pytest.raises(ConfigError) as caught:
        settings.parse({**RATE, **raw}, stack=stack, project="proj-1")

    assert str(caught.value).endswith(remedy)


def test_project_is_asked_for_when_none_is_set():
    """The provider's own message names five variables and comes once a resource."""
    with pytest.raises(ConfigError) as caught:
        settings.parse(RATE, stack="dev", project=None)

    assert [p.key for p in caught.value.problems] == ["gcp:project"]
    assert "Try: pulumi config set gcp:project" in str(caught.value)


def test_seed_takes_a_cpu_machine_on_demand_when_nothing_is_said():
    """A preempted seed costs more of a person's time than it saves."""
    parsed = settings.parse({**RATE, "layer": "seed"}, stack="seed", project="proj-1")

    assert isinstance(parsed, SeedSettings)
    assert (parsed.vm.machine, parsed.vm.provisioning) == ("n2-standard-8", "on-demand")
    assert "ubuntu-2204-lts" in parsed.vm.image


def test_seed_is_refused_when_it_asks_for_gpus():
    """A seed on an 8xH100 would pay GPUs to wait for a download."""
    line = problems(layer="seed", machine="a3-highgpu-8g")["mayfly:machine"]

    assert "n2-standard-8" in line


def test_foundation_reads_lists_when_pulumi_hands_them_over_as_json():
    """Pulumi passes arrays as JSON text."""
    parsed = settings.parse(
        {
            "layer": "foundation",
            "regions": '["us-central1", "us-east5", "us-central1"]',
            "members": '["user:ann@example.com"]',
        },
        stack="foundation",
        project="proj-1",
    )

    assert isinstance(parsed, FoundationSettings)
    assert parsed.regions == ("us-central1", "us-east5")
    assert parsed.members == ("user:ann@example.com",)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("regions", '["mars-1"]', "mars-1"),
        ("regions", "[]", "at least 1"),
        ("regions", "us-central1", "a list of texts"),
        ("members", '["ann@example.com"]', "user:ann@example.com"),
        ("members", '["allUsers"]', "allUsers"),
        ("members", "[1]", "a list of texts"),
    ],
)
def test_foundation_list_is_refused_when_an_item_is_wrong(key, value, words):
    """A member without its kind is a 400 in the middle of an `up`; allUsers must never pass."""
    assert words in problems(layer="foundation", **{key: value})[f"mayfly:{key}"]


def test_keys_are_those_of_pulumi_yaml_when_it_is_read():
    """Pulumi refuses early what it knows; a key known to one side only is silently lost."""
    declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]

    assert list(KEYS) == list(declared)
    for key, default in KEYS.items():
        written = declared[key]["default"]
        assert default == (str(written).lower() if isinstance(written, bool) else written), key
        assert declared[key]["description"], key


@pytest.mark.parametrize("stack", ["foundation", "seed", "dev", "ci"])
def test_shipped_stack_is_taken_when_only_the_project_is_added(stack):
    """`pulumi up` by hand must work with what is in git."""
    config = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text())["config"]
    raw = {
        key.removeprefix("mayfly:"): value
        if isinstance(value, str)
        else str(value).replace("'", '"')
        for key, value in config.items()
    }

    assert settings.parse(raw, stack=stack, project="proj-1")


@pytest.mark.parametrize("stack", ["seed", "dev"])
def test_shipped_rate_is_a_row_of_the_rate_table(stack):
    """A price that nobody can find again is a bare number with a story."""
    config = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text())["config"]
    shipped = [config[f"mayfly:{key}"] for key in ("hourlyUsd", "rateSource", "rateDate")]
    rows = yaml.safe_load((ROOT / "mayfly/rates.yaml").read_text())["rates"]

    mine = [row for row in rows if row["machine"] == config["mayfly:machine"]]
    assert shipped in [[str(row["usd_per_h"]), row["source"], row["date"]] for row in mine]


def test_settings_load_without_pulumi_when_imported():
    """The desk parses settings at every command; pulumi alone would cost it seconds."""
    code = "import sys, mayfly.settings as _; sys.exit('pulumi' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
