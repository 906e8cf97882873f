"""`mayfly up` on bad days: one message each, what it means, the command to run, nothing made."""

import json
import os
from pathlib import Path

import pytest

from local.rest.quotas import Quotas
from local.rest.world import World
from mayfly.cli import main
from tests.desk.project import serving, switch_on
from tests.desk.pulumi_stub import FOUNDATION, WEIGHTS, Pulumi

PROJECT = "proj-one"
SPOT_A100 = "PREEMPTIBLE-NVIDIA-A100-80GB-GPUS-per-project-region"
ALL_GPUS = "GPUS-ALL-REGIONS-per-project"
READS = ("stack ls", "stack output")


@pytest.fixture
def world(checkout: Path, pulumi: Pulumi):
    """A project without a foundation, its APIs on; Pulumi has no stack."""
    pulumi.kept |= {"stacks": {}, "outputs": {}}
    pulumi.save()
    made = World(PROJECT)
    with serving(made) as environment:
        os.environ.update(environment)
        switch_on(made, "compute", "cloudquotas", "cloudbilling", "cloudresourcemanager")
        yield made


def refused(pulumi: Pulumi, capfd, status: int, *words: str) -> list[str]:
    """The three lines of a refusal, in front of which nothing was changed."""
    assert main(["up", "--yes", "--machine", "a2-ultragpu-8g", *words]) == status
    assert all(line.startswith(READS) for line in pulumi.lines)
    return capfd.readouterr().err.strip().splitlines()[-3:]


def test_up_names_the_login_when_there_are_no_credentials(world, pulumi, capfd):
    """The first thing that a new machine lacks."""
    del os.environ["GOOGLE_OAUTH_ACCESS_TOKEN"]
    os.environ["GOOGLE_APPLICATION_CREDENTIALS"] = "/nowhere.json"

    told = refused(pulumi, capfd, 1)

    assert "No usable Google credentials" in told[0]
    assert told[2] == "Try: gcloud auth application-default login"


def test_up_says_that_nobody_answers_when_there_is_no_network(world, pulumi, capfd):
    """Said by mayfly in seconds; Pulumi would ask its bucket for minutes."""
    del os.environ["GOOGLE_COMPUTE_CUSTOM_ENDPOINT"]  # the proxy of all tests refuses the rest
    assert os.environ["HTTPS_PROXY"] == "http://127.0.0.1:9"

    told = refused(pulumi, capfd, 1)

    assert told[0] == "Google does not answer: no connection to compute.googleapis.com."
    assert told[2] == "Try: the same command again when this machine is online"
    assert pulumi.lines == []


def test_up_names_the_project_when_there_is_none(world, pulumi, capfd):
    """A typo in an id reads, in Google's words, like a missing right."""
    os.environ["GOOGLE_PROJECT"] = "no-such-project"

    told = refused(pulumi, capfd, 1)

    assert told[0] == "There is no project no-such-project, or you have no rights in it."
    assert told[2] == "Try: gcloud projects list"


def test_up_names_the_api_when_it_was_switched_off_under_a_foundation(world, pulumi, capfd):
    """Without one it is fine: the foundation switches its APIs on."""
    pulumi.kept |= {"stacks": {"foundation": []}, "outputs": {"foundation": FOUNDATION}}
    pulumi.save()
    with serving(World("proj-two")) as environment:
        os.environ.update(environment)
        os.environ["GOOGLE_STORAGE_CUSTOM_ENDPOINT"] = "http://127.0.0.1:9/storage/v1/"
        told = refused(pulumi, capfd, 1)

    assert told[0] == "The API compute.googleapis.com is off in project proj-two."
    assert told[2] == "Try: gcloud services enable compute.googleapis.com --project proj-two"


def test_up_says_billing_when_it_is_off(world, pulumi, capfd):
    """Before the foundation, half of which Google would make for nothing."""
    world.change_settings({"billing": "false"})

    told = refused(pulumi, capfd, 3)

    assert told[0].startswith(f"Billing is off for project {PROJECT}")
    assert told[2].startswith(f"Try: gcloud billing projects link {PROJECT}")


def test_up_says_which_policy_forbids_the_seeds_address(world, pulumi, capfd):
    """A session has no external address; the VM that fetches its weights needs one."""
    world.change_settings({"external_ips": "false"})

    told = refused(pulumi, capfd, 3)

    assert "constraints/compute.vmExternalIpAccess" in told[0]
    assert "the seeding VM could not reach the model hub" in told[0]
    assert "ask for an exception" in told[2]


def grant(world: World, quota_id: str, value: int) -> None:
    limits = world.of(Quotas).limits
    limits[quota_id] = [(where, value) for where, _ in limits[quota_id]]


@pytest.mark.parametrize("value", [0, 1, 7])
@pytest.mark.parametrize("quota_id", [SPOT_A100, ALL_GPUS])
def test_up_exits_3_with_the_request_to_send_when_the_quota_is_too_low(
    world, pulumi, capfd, quota_id, value
):
    """7 is as little as 0, and is known before foundation, weights and an hour of seeding."""
    grant(world, quota_id, value)

    told = refused(pulumi, capfd, 3)

    assert f"{quota_id} is {value}, 8 are needed" in told[0]
    assert told[1].endswith("Nothing was created; nothing is billed.")
    request = "mayfly quota request kimi-k2.5 --machine a2-ultragpu-8g --provisioning spot"
    assert told[2].startswith(f"Try: {request} --region us-central1")


def test_up_leaves_out_only_what_the_quota_forbids(world, pulumi, capfd):
    """On-demand GPUs are another limit: spot's zero does not end the ladder."""
    grant(world, SPOT_A100, 0)
    words = ("--provisioning", "spot,on-demand", "--machine", "a2-ultragpu-8g", "--dry-run")

    assert main(["up", *words, "--json"]) == 0

    told = json.loads(capfd.readouterr().out)
    assert {rung["provisioning"] for rung in told["rungs"]} == {"on-demand"}
    why = {item["place"]: item["why"] for item in told["left_out"]}
    assert why["a2-ultragpu-8g spot us-central1-a"] == f"{SPOT_A100} is 0, 8 are needed"


def test_up_goes_on_and_says_so_when_quotas_cannot_be_read(seeded, checkout, pulumi, capfd):
    """Not everybody may read them; then the launch itself finds out."""
    del os.environ["GOOGLE_CLOUD_QUOTAS_CUSTOM_ENDPOINT"]
    pulumi.up({"state": ["7"]})

    assert main(["up", "--yes", "--machine", "a2-ultragpu-8g"]) == 0

    assert "no quota could be read, so the launch itself will tell" in capfd.readouterr().err


def test_up_says_what_it_costs_when_the_bucket_is_in_another_region(
    seeded, checkout, pulumi, capfd
):
    """Half a terabyte a start comes out of where the bucket is, not out of where one thinks."""
    seeded.located[WEIGHTS] = "EUROPE-WEST4"
    pulumi.up({"state": ["7"]})

    assert main(["up", "--yes", "--machine", "a2-ultragpu-8g"]) == 0

    err = capfd.readouterr().err
    assert "- pull the weights out of europe-west4, where their bucket is: about 11.90 USD" in err
    assert "--region europe-west4 would spare" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--zone", "nowhere-1"], "--zone: 'nowhere-1'. Valid: "),
        (["--budget", "-5"], "--budget -5: it must be a number above 0."),
        (["--budget", "0"], "--budget 0: it must be a number above 0."),
        (["--hours", "nan"], "--hours nan: it must be a number above 0."),
        (["--max-hourly", "inf"], "--max-hourly inf: it must be a number above 0."),
        (["--machine", "a9"], "--machine: 'a9'. Valid: "),
    ],
)
def test_up_exits_2_naming_the_value_when_there_is_not_even_a_project(
    tmp_path, monkeypatch, capfd, words, said
):
    """A typo is a typo, with or without cloud, checkout and Pulumi."""
    monkeypatch.chdir(tmp_path)

    assert main(["up", "kimi-k2.5", *words]) == 2

    told = capfd.readouterr().err
    assert said in told
    assert "Nothing was created; nothing is billed." in told


def test_up_leaves_a_vm_of_its_name_alone_when_somebody_else_made_it(
    seeded, checkout, pulumi, capfd
):
    """Made by hand in the console: no label of ours, and it is in the way."""
    number = seeded.add_vm("dev", age_s=10)
    seeded.instances[number] |= {"labels": {}, "metadata": {}}
    taken = "googleapi: Error 409: The resource 'x' already exists, alreadyExists"
    says = f"Diagnostics:\n  gcp:compute:Instance (node-vm):\n    error: {taken}\n"
    pulumi.up({"says": says, "status": 1})

    assert main(["up", "--yes", "--machine", "a2-ultragpu-8g"]) == 1

    told = capfd.readouterr().err.strip().splitlines()[-3:]
    assert told[0] == "A VM of this name is in us-central1-a, and this stack did not make it."
    assert told[1] == "It was left alone; this launch made nothing."
    assert number in seeded.instances
