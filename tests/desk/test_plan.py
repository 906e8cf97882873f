"""`mayfly plan`, as it is typed: exit codes, words, and no cloud."""

import json
import os
import subprocess
import sys

import pytest

from local.rest.world import World
from mayfly.cli import main
from tests.desk import project

CHECKED = (
    *("fits", "weights_gib_per_gpu", "kv_gib_per_gpu", "kv_tokens", "max_context"),
    *("max_concurrency", "flags", "reasons", "usd_per_hour", "rate_source", "rate_date"),
    *("deadline_hours", "modes"),
)


def said(capsys, *words: str) -> tuple[int, str, str]:
    code = main(["plan", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_plan_tells_all_it_promises_when_asked_for_json(capsys):
    """Scripts read these keys."""
    code, out, _ = said(capsys, "kimi-k2.5", "--json")
    plan = json.loads(out)

    assert code == 0
    assert set(CHECKED) <= set(plan)
    assert abs(plan["weights_gib_per_gpu"] - 71.2) < 1
    assert plan["modes"]["long"]["max_context"] == 262_144


def test_plan_imports_neither_pulumi_nor_a_cloud_when_it_runs():
    """It is asked before there is a project, and often."""
    script = (
        "import sys; from mayfly.cli import main; code = main(['plan', 'kimi-k2.5', '--json'])\n"
        "bad = ('pulumi', 'google.auth', 'requests', 'huggingface_hub', 'mayfly.cloud')\n"
        "print([m for m in bad if m in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert result.returncode == 0
    assert result.stderr.strip() == "[]"


def test_plan_shows_each_mode_by_itself_when_people_read_it(capsys):
    """No line may hold figures of both."""
    code, out, _ = said(capsys, "kimi-k2.5")
    fast, long = out.index("mode fast (chosen)"), out.index("mode long:")

    assert code == 0
    assert "262,144" not in out[fast:long]
    assert "135.9" not in out[long:]
    assert "no all-reduce" in out[fast:long]
    assert "--decode-context-parallel-size=8" in out[long:]
    assert out.count("context against requests at a time") == 2
    assert "Cheapest known: 10.30 USD/h as spot in europe-north1-c" in out
    assert "it ends after 4 h at the latest: 211.84 USD." in out
    assert "Sources say 37.92 to 52.96 for it there: 151.68 to 211.84." in out
    assert "days old; what it is now: mayfly plan --live" in out
    assert "its weights in the bucket: 554 GiB, 11.09 USD a month" in out


def test_plan_says_by_which_rate_a_budget_becomes_a_deadline(capsys):
    """A budget that is spent at another price than was counted is none."""
    code, out, _ = said(capsys, "kimi-k2.5", "--budget", "100")

    assert code == 0
    assert "A budget of 100.00 USD buys 1.9 h, counted by 52.96 USD/h" in out
    assert "none is newer than 30 days" in out


def test_plan_shows_several_machines_beside_others_when_it_is_asked_for_them(capsys):
    """The larger GPU is often the cheaper answer; and `up` does not start them yet."""
    code, out, _ = said(capsys, "kimi-k3", "--nodes", "3", "--machine", "a3-highgpu-8g")

    assert code == 0
    assert "on 3 x a3-highgpu-8g, 24 x H100 80GB" in out
    assert "158.88 USD/h for all 3 as spot in us-central1-a" in out
    assert "Or 2 x a3-ultragpu-8g: 101.74 USD/h, 32,768 tokens of context" in out
    assert "--pipeline-parallel-size=3: a machine holds its share of the 93 layers" in out
    assert "mayfly up starts one machine" in out


def test_plan_takes_the_wished_settings_when_they_are_given(capsys):
    """What a profile wishes is a start, not a limit."""
    code, out, _ = said(
        capsys,
        *("kimi-k2.5", "--mode", "fast", "--context", "8192", "--concurrency", "16", "--json"),
    )
    fast = json.loads(out)["modes"]["fast"]

    assert code == 0
    assert (fast["max_context"], fast["max_requests"]) == (8192, 16)


def test_plan_doubles_the_tokens_when_the_cache_is_fp8_where_it_may_be(capsys):
    """Mode fast on H100: no context parallelism, so the engine takes it."""
    _, plain, _ = said(capsys, "kimi-k2.5", "--json")
    code, out, _ = said(capsys, "kimi-k2.5", "--kv", "fp8", "--json")
    eight = json.loads(out)["modes"]["fast"]

    assert code == 0
    assert "--kv-cache-dtype=fp8" in eight["flags"]
    full = json.loads(plain)["modes"]["fast"]
    in_a_gib = [mode["kv_tokens"] / mode["kv_gib_per_gpu"] for mode in (eight, full)]
    assert in_a_gib[0] == pytest.approx(2 * in_a_gib[1], rel=0.01)


def test_plan_says_which_mode_is_refused_when_the_other_fits(capsys):
    """A mode that silently is not there would be looked for on the machine."""
    code, out, _ = said(capsys, "kimi-k2.5", "--kv", "fp8")

    assert code == 0
    assert "mode long: no: vLLM 0.24.0 refuses" in out


@pytest.mark.parametrize(
    ("words", "why", "remedy"),
    [
        (["kimi-k3", "--machine", "a3-highgpu-8g"], "191.0 GiB of", "a3-ultragpu-8g --nodes 2"),
        (["kimi-k3", "--nodes", "2"], "2 x a3-highgpu-8g in mode fast", "a3-ultragpu-8g --nodes 2"),
        (["kimi-k2.5", "--machine", "a2-highgpu-8g"], "71.1 GiB of", "--machine a2-ultragpu-8g"),
        (["kimi-k2.5", "--machine", "a2-ultragpu-8g", "--kv", "fp8"], "8.9", "fits, 32,768"),
        (["kimi-k2.5", "--mode", "long", "--kv", "fp8", "--dcp", "8"], "refuses an fp8", "262,144"),
        (["kimi-k2.5", "--tp", "7"], "7 does not divide 64", "--machine a3-highgpu-8g"),
        (["kimi-k2.5", "--context", "262144"], "do not fit a3-highgpu-8g", "--mode long"),
        (["qwen3-4b", "--mode", "long", "--context", "262144"], "90,112 do", "--context 90112"),
    ],
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_plan_ends_with_3_and_the_nearest_fit_when_it_does_not_fit(
    capsys, form, words, why, remedy
):
    """The answer is no, before any money, and what would be yes."""
    code, out, err = said(capsys, *words, *form)

    assert code == 3
    assert why in err
    assert remedy in err
    assert "nothing is billed" in err
    if form:
        json.loads(out)


@pytest.fixture
def world(checkout):
    found = World()
    with project.serving(found) as environment:
        os.environ.update(environment)
        project.switch_on(found, "compute")
        yield found


def test_plan_goes_by_googles_own_price_when_it_is_asked_for(world, capsys):
    """The table is weeks old at best; the history is of this project and of today."""
    code, out, err = said(capsys, "kimi-k2.5", "--live", "--budget", "100", "--json")
    plan = json.loads(out)

    assert (code, err) == (0, "")
    assert plan["rate_source"].startswith("Google's price history in project")
    assert plan["rate_warning"] is None
    assert plan["budget_rate"]["usd_per_hour"] == plan["usd_per_hour"]


def test_plan_adds_up_the_parts_when_it_is_asked_for_on_demand(world, capsys):
    """By hand: 96 vCPUs, 1,360 GB, 8 GPUs; neither the spot nor the reserved nor the custom SKU."""
    project.switch_on(world, "cloudbilling")
    words = ("kimi-k2.5", "--machine", "a2-ultragpu-8g", "--provisioning", "on-demand", "--live")

    code, out, err = said(capsys, *words, "--json")
    plan = json.loads(out)

    assert (code, err) == (0, "")
    assert plan["usd_per_hour"] == pytest.approx(96 * 0.031611 + 1360 * 0.004237 + 8 * 3.9)
    assert plan["rate_source"].startswith("Google's Cloud Billing Catalog")


@pytest.mark.parametrize(
    "words",
    [
        ("kimi-k2.5", "--machine", "a3-highgpu-8g"),  # its GPU would be cheaper than as spot
        ("qwen3-4b", "--machine", "g2-standard-8"),  # two SKUs for one part
        ("kimi-k2.5", "--machine", "a3-megagpu-8g"),  # nobody has told us its SKUs
        ("kimi-k2.5", "--machine", "a2-ultragpu-8g", "--zone", "us-east5-a"),  # not sold there
    ],
)
def test_plan_takes_no_price_from_the_catalogue_when_it_is_not_certain(world, capsys, words):
    """A sum over the wrong part would be off by a factor, and look exact."""
    project.switch_on(world, "cloudbilling")

    code, _, err = said(capsys, *words, "--provisioning", "on-demand", "--live")

    assert code == 0
    assert "Google tells no price of it as on-demand in " in err


def test_plan_says_so_and_goes_by_the_table_when_google_tells_no_price(world, capsys):
    """A plan must not fail over its price."""
    code, out, err = said(capsys, "kimi-k2.5", "--live", "--provisioning", "flex-start", "--json")

    assert code == 0
    assert "Google tells no price of it as flex-start in us-central1-a." in err
    assert json.loads(out)["rate_date"] == "2026-09-19"


def test_plan_goes_by_the_table_when_google_does_not_answer(checkout, capsys):
    """On a train, too."""
    os.environ["GOOGLE_PROJECT"] = "p-for-tests"
    os.environ["GOOGLE_COMPUTE_CUSTOM_ENDPOINT"] = "http://127.0.0.1:9/compute/v1/"

    code, out, err = said(capsys, "kimi-k2.5", "--live", "--json")

    assert code == 0
    assert err.startswith("No live price, going by the table: ")
    assert json.loads(out)["usd_per_hour"] == 52.96


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nix"], "profile: 'nix'. Valid: kimi-k2.5"),
        (["kimi-k2.5", "--machine", "n2-standard-8"], "--machine: 'n2-standard-8'. Valid: a3-high"),
        (["kimi-k2.5", "--mode", "both"], "--mode: 'both'. Valid: fast, long."),
        (["kimi-k2.5", "--kv", "fp4"], "--kv: 'fp4'. Valid: auto, bf16, fp8."),
        (["kimi-k2.5", "--zone", "mars-1"], "--zone: 'mars-1'. Valid: us-central1-a"),
        (
            ["qwen3-4b", "--machine", "a3-highgpu-1g", "--provisioning", "on-demand"],
            "--provisioning: 'on-demand'. Valid: spot, flex-start.",
        ),
        (["kimi-k2.5", "--checkpoint", "/nowhere"], "/nowhere holds no *.safetensors"),
        (["kimi-k3", "--nodes", "3", "--checkpoint", "/nowhere"], "for one machine only"),
        (["kimi-k3", "--nodes", "2", "--machine", "a3-highgpu-4g"], "Valid: a3-highgpu-8g, a3-me"),
    ],
)
def test_plan_ends_with_2_when_it_cannot_be_meant(capsys, words, says):
    """Nothing was planned."""
    code, out, err = said(capsys, *words)

    assert (code, out) == (2, "")
    assert says in err


def test_plan_lists_the_profiles_when_none_is_named(capsys):
    """The first thing that a new user types."""
    code, out, _ = said(capsys)
    json_code, listed, _ = said(capsys, "--json")

    assert code == json_code == 0
    assert "kimi-k2.5" in out
    assert "none holds it" in out
    assert {row["profile"] for row in json.loads(listed)["profiles"]} >= {"kimi-k3", "qwen3-4b"}
