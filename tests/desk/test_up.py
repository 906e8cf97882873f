"""`mayfly up` at the desk: what it asks, refuses, shows, and leaves when it is stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from mayfly import cli
from tests.conftest import ROOT
from tests.desk.google import stamp
from tests.desk.pulumi_stub import STATE
from tests.running import running
from tests.waiting import wait_until

VM_FAILED = """Diagnostics:
  pulumi:pulumi:Stack (mayfly-dev):
    error: update failed
  gcp:compute:Instance (node-vm):
    error: 1 error occurred:
    \t* {}
Resources:
    1 errored
"""
NO_ROOM = "The zone 'z' does not have enough resources available to fulfill the request."


AMPERE = ("--machine", "a2-ultragpu-8g")


def up(*words: str) -> int:
    return cli.main(["up", *AMPERE, *words])


def test_up_walks_on_when_a_zone_has_no_room(seeded, checkout, pulumi, capfd):
    """The stack is configured with place, price and life before each `up`."""
    pulumi.up({"says": VM_FAILED.format(NO_ROOM), "status": 1}, {"state": ["7"]})

    assert up("--yes", "--hours", "2", "--json") == 0

    assert pulumi.zones() == ["us-central1-a", "us-central1-c"]
    written = next(line for line in pulumi.lines if "mayfly:zone=us-central1-c" in line)
    for pair in ("mayfly:machine=a2-ultragpu-8g", "mayfly:hourlyUsd=21.9", "mayfly:layer=session"):
        assert f"--plaintext {pair}" in written
    assert "mayfly:maxRunSeconds=7200" in written
    assert "gcp:project" not in written  # the shell names it
    told = json.loads(capfd.readouterr().out)
    assert [a["outcome"] for a in told["attempts"]] == ["no capacity in the zone", "it serves"]


def insert(zone: str, code: str, at: float, **metadatas: str) -> dict[str, Any]:
    details = [{"errorInfo": {"reason": "resource_availability", "metadatas": metadatas}}]
    return {
        "name": f"operation-{code}",
        "operationType": "insert",
        "insertTime": stamp(at),
        "targetLink": f"https://x/projects/p/zones/{zone}/instances/mayfly-dev",
        "error": {"errors": [{"code": code, "message": "no", "errorDetails": details}]},
    }


def test_up_goes_by_the_zone_operation_when_pulumi_says_less(seeded, checkout, pulumi, capfd):
    """Code and `zonesAvailable` are in the operation only; an earlier one does not count."""
    now = time.time()
    seeded.operations = [insert("us-central1-a", "QUOTA_EXCEEDED", now)]
    code = "ZONE_RESOURCE_POOL_EXHAUSTED"
    seeded.to_come = [insert("us-central1-a", code, now, zonesAvailable="us-central1-c")]
    pulumi.up({"says": VM_FAILED.format("it did not work"), "status": 1}, {"state": ["7"]})

    assert up("--yes", "--json") == 0

    told = json.loads(capfd.readouterr().out)
    assert told["attempts"][0]["outcome"] == ("no capacity in the zone; Google names us-central1-c")


def test_up_exits_3_with_the_command_that_goes_on_when_nobody_has_room(
    seeded, checkout, pulumi, capfd
):
    """ "No" is not "broken"."""
    failed = {"says": VM_FAILED.format(NO_ROOM), "status": 1}
    pulumi.up(failed, failed)

    assert up("--yes") == 3

    err = capfd.readouterr().err
    assert "No capacity: 2 places were asked in 2 attempts." in err
    assert "--retry-for 2h" in err


def test_up_stops_when_the_vm_is_made_and_does_not_serve(seeded, checkout, pulumi, capfd):
    """The next zone would be a second VM beside a broken one."""
    number = seeded.add_vm("dev", age_s=10, state_bucket=STATE)
    seeded.instances.clear()
    pulumi.up(
        {
            "says": "Diagnostics:\n  command:local:Command (x):\n    error: forbidden",
            "status": 1,
            "state": [number],
        }
    )

    assert up("--yes") == 1

    err = capfd.readouterr().err
    assert "mayfly-dev is in us-central1-a, and does not serve." in err
    assert pulumi.zones() == ["us-central1-a"]


def test_up_walks_on_when_the_vm_was_preempted_before_it_served(seeded, checkout, pulumi, capfd):
    """Spot: made and taken within minutes is a stockout that came late."""
    seeded.operations = [
        {"operationType": "compute.instances.preempted", "insertTime": stamp(time.time())}
    ]
    pulumi.up({"says": "error: it is gone", "status": 1, "state": ["7"]}, {"state": ["8"]})

    assert up("--yes") == 0

    assert any(line.startswith("destroy --yes --refresh") for line in pulumi.lines)
    assert "preempted before it served" in capfd.readouterr().err


def test_up_stops_when_the_program_refuses(seeded, checkout, pulumi, capfd):
    """A RunError of ours is the same in every zone; its words hold no verdict."""
    pulumi.up(
        {"says": "Diagnostics:\n  pulumi:pulumi:Stack (d):\n    error: quotaExceeded", "status": 1}
    )

    assert up("--yes") == 1

    assert "failed before it asked for a VM" in capfd.readouterr().err
    assert pulumi.zones() == ["us-central1-a"]


def test_up_leaves_anothers_vm_alone_when_it_has_the_name(seeded, checkout, pulumi, capfd):
    """Same name and label, told another state bucket: somebody else's session."""
    seeded.add_vm("dev", age_s=10, state_bucket="another")

    assert up("--yes") == 1

    told = capfd.readouterr().err.strip().splitlines()[-3:]
    assert told[0] == "mayfly-dev in us-central1-a is not this stack's."
    assert told[1] == "It was left alone; this launch made nothing."
    assert told[2].endswith("mayfly up --session dev-2")
    assert pulumi.zones() == []


@pytest.mark.parametrize("imported", [True, False], ids=["imported", "refused by Pulumi"])
def test_up_takes_in_a_vm_that_an_earlier_launch_lost(seeded, checkout, pulumi, capfd, imported):
    """A laptop that died in the middle of a create: the GPUs are there, and were hard to get."""
    facts = {"rate_source": "a list", "rate_date": "2026-06-01", "mode": "fast"}
    place = {"machine": "a2-ultragpu-8g", "provisioning": "spot"}
    number = seeded.add_vm("dev", age_s=10, state_bucket=STATE, **facts, **place)
    pulumi.kept["imports"] = [number] if imported else []
    pulumi.up({"state": [number]})

    assert up("--yes") == 0

    asked = next(line for line in pulumi.lines if line.startswith("import "))
    assert "projects/p-for-tests/zones/us-central1-a/instances/mayfly-dev" in asked
    assert "--parent parent=urn:node" in asked
    assert "--protect=false" in asked, "what is protected no reaper may end"
    err = capfd.readouterr().err
    assert ("waiting until it serves" in err) == imported
    assert (number in seeded.instances) == imported
    assert ("it is taken away" in err) != imported


def test_up_clears_a_stack_first_when_its_vm_is_gone(seeded, checkout, pulumi, capfd):
    """Pulumi, asked plainly, would find nothing to do and call it served."""
    pulumi.kept["stacks"]["dev"] = ["7"]
    pulumi.up({"state": ["8"]})

    assert up("--yes") == 0

    words = [line.split()[0] for line in pulumi.lines]
    assert words.index("destroy") < words.index("up")
    assert "mayfly-dev has ended; what is left of it is taken away" in capfd.readouterr().err


def test_up_takes_part_in_a_session_that_lives_already(seeded, checkout, pulumi, capfd):
    """Twice `up` is one VM."""
    number = seeded.add_vm("dev", age_s=10, state_bucket=STATE)
    pulumi.kept["stacks"]["dev"] = [number]
    pulumi.up({"state": [number]})

    assert up("--yes") == 0

    assert pulumi.zones() == []
    assert "mayfly-dev is in us-central1-a already" in capfd.readouterr().err


def test_up_asks_before_anything_when_nobody_said_yes(seeded, checkout, pulumi, capfd):
    """Foundation, weights and GPUs: each costs, and each is named."""
    seeded.objects.clear()
    pulumi.kept["stacks"] = {}
    pulumi.kept["outputs"] = {}
    pulumi.save()
    command = [sys.executable, "-m", "mayfly.cli", "up", "--region", "us-central1,us-east4"]

    done = subprocess.run(
        command,
        cwd=checkout,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )

    assert done.returncode == 2
    assert "- bring up the foundation, stack foundation" in done.stderr
    assert "- add a subnet in us-east4 to the foundation" in done.stderr
    assert "- seed kimi-k2.5: 595 GB from the hub into the bucket" in done.stderr
    assert "USD at most until it ends by itself" in done.stderr
    assert "Nobody is here to confirm this." in done.stderr
    assert all(line.startswith("stack ls") for line in pulumi.lines)


def test_dry_run_shows_every_place_and_changes_nothing(seeded, checkout, pulumi, capfd):
    """Before any money: where, at what price by whom, and what was left out why."""
    assert up("--dry-run", "--json", "--hours", "1") == 0

    told = json.loads(capfd.readouterr().out)
    assert [r["zone"] for r in told["rungs"]] == ["us-central1-a", "us-central1-c"]
    assert all(r["rate_source"] and r["rate_date"] for r in told["rungs"])
    assert {"the foundation has no subnet in us-east5"} <= {o["why"] for o in told["left_out"]}
    assert all(line.split()[:2] in (["stack", "ls"], ["stack", "output"]) for line in pulumi.lines)

    assert up("--dry-run", "--max-hourly", "1") == 3
    assert "21.90 USD/h is above --max-hourly" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--zone", "mars-a"], "--zone: 'mars-a'. Valid: "),
        (["--region", "mars"], "--region: 'mars'. Valid: "),
        (["--provisioning", "free"], "--provisioning: 'free'. Valid: spot, flex-start, on-demand."),
        (["--retry-for", "soon"], "--retry-for soon: it must be a whole number and s, m, h or d."),
        (["--session", "Not_one"], "cannot be a session"),
        (["nothing"], "nothing"),
        (["--mode", "slow"], "--mode: 'slow'. Valid: fast, long."),
        (["--session", "foundation"], "Stack 'foundation' is a foundation, not a session."),
    ],
)
def test_up_exits_2_with_what_is_right_when_an_option_is_wrong(
    seeded, checkout, pulumi, capfd, words, said
):
    """Nothing is attempted over a typo."""
    (checkout / "Pulumi.foundation.yaml").write_text("config:\n  mayfly:layer: foundation\n")

    assert up("--yes", *words) == 2

    assert said in capfd.readouterr().err
    assert pulumi.zones() == []


@pytest.mark.parametrize("hangs", ["polite", "deaf"])
def test_up_says_what_is_there_when_it_is_interrupted(seeded, checkout, pulumi, hangs):
    """Ctrl-C, and a second one where Pulumi does not end: no lock and no doubt stay behind."""
    pulumi.up({"hangs": hangs})
    command = [sys.executable, "-m", "mayfly.cli", "up", *AMPERE, "--yes"]
    with running(
        command,
        cwd=checkout,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as child:
        wait_until(lambda: (pulumi.home / "hanging").exists(), 30)
        child.send_signal(signal.SIGINT)
        if hangs == "deaf":
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(timeout=1)
            child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)

    assert child.returncode == 1
    assert "Interrupted.\nNo VM is there; nothing is billed.\nTry: mayfly up" in err
    assert ("cancel --yes --stack dev" in pulumi.lines) == (hangs == "deaf")
