"""`mayfly down` ends what costs money, and only that."""

import json
import os
import socket
import sys

import pytest

from mayfly import cli, names, ssh_config, vms
from mayfly.cloud import CloudError
from tests.desk.google import Google

STUB = """#!{python}
import json, os, sys, urllib.request
log = os.environ["STUB_LOG"]
with open(log, "a") as f: f.write(" ".join(sys.argv[1:]) + chr(10))
layers = json.loads(os.environ["STUB_STACKS"])
if sys.argv[1:3] == ["stack", "ls"]:
    print(json.dumps([{{"name": n}} for n in layers]))
elif sys.argv[1:3] == ["stack", "export"]:
    layer = layers[sys.argv[-1]]
    vm = {{"type": "gcp:compute/instance:Instance", "outputs": {{"labels": {{"mayfly": layer}}}}}}
    print(json.dumps({{"deployment": {{"resources": [vm] if layer else []}}}}))
elif sys.argv[1] == "destroy" and sys.argv[-1] == os.environ.get("STUB_FAILS"):
    sys.exit("error: it would not go")
elif sys.argv[1] == "destroy":
    vm = os.environ["GOOGLE_COMPUTE_CUSTOM_ENDPOINT"] + "projects/p/zones/z/instances/"
    for number in json.loads(os.environ.get("STUB_HOLDS", "{{}}")).get(sys.argv[-1], []):
        urllib.request.urlopen(urllib.request.Request(vm + number, method="DELETE"))
"""


@pytest.fixture
def pulumi(stub, tmp_path):
    """A pulumi that keeps what it was asked; pulumi(stack=layer) sets its stacks, and
    pulumi.hold(stack=[numbers]) which VMs their states hold."""
    stub("pulumi", STUB.format(python=sys.executable))
    log = tmp_path / "pulumi.log"
    os.environ["STUB_LOG"] = str(log)

    def set_stacks(**layers: str) -> None:
        os.environ["STUB_STACKS"] = json.dumps(layers)

    def destroyed() -> list[str]:
        lines = log.read_text().splitlines() if log.exists() else []
        return [line.split()[-1] for line in lines if line.startswith("destroy --yes --refresh")]

    def hold(**stacks: list[str]) -> None:
        os.environ["STUB_HOLDS"] = json.dumps(stacks)

    set_stacks.destroyed, set_stacks.hold = destroyed, hold
    return set_stacks


def test_down_destroys_the_session_and_tells_its_cost(google: Google, checkout, pulumi, capfd):
    """The bill is known best at the moment it stops growing."""
    number = google.add_vm("dev", age_s=1800)
    pulumi(dev="session", foundation="")
    pulumi.hold(dev=[number])

    assert cli.main(["down", "dev", "--yes"]) == 0

    assert pulumi.destroyed() == ["dev"]
    assert "dev is gone (ran 30 min, about $13.0" in capfd.readouterr().err


def test_down_takes_the_sessions_entry_out_of_the_ssh_configuration(
    google: Google, checkout, pulumi, capfd
):
    """An editor would go on knocking at a VM that is gone."""
    os.environ["HOME"] = str(checkout)
    for name in ("dev", "night"):
        ssh_config.write(name, f"Host mayfly-{name}\n")
    pulumi(dev="session", foundation="")

    assert cli.main(["down", "dev", "--yes"]) == 0

    assert "Its entry in ~/.ssh/mayfly is gone too." in capfd.readouterr().err
    assert [path.name for path in (checkout / ".ssh/mayfly").iterdir()] == ["night.conf"]


def test_down_exits_2_naming_the_stacks_when_there_is_no_such_session(
    google: Google, checkout, pulumi, capfd
):
    """A typo must not read as "it is down"."""
    pulumi(dev="session", foundation="")

    assert cli.main(["down", "bev", "--yes"]) == 2

    assert "No session 'bev'.\nStacks there: dev, foundation." in capfd.readouterr().err
    assert pulumi.destroyed() == []


def test_down_all_takes_sessions_and_seeds_when_there_is_a_foundation(
    google: Google, checkout, pulumi
):
    """Destroying the foundation would take the weights' home and the reaper of other sessions."""
    (checkout / "Pulumi.foundation.yaml").write_text("config:\n  mayfly:layer: foundation\n")
    (checkout / "Pulumi.idle.yaml").write_text("config: {}\n")
    pulumi(dev="session", seed="seed", foundation="", idle="", unknown="")

    assert cli.main(["down", "--all", "--yes"]) == 0

    # "idle" has a session's file and no resources; nothing says what "unknown" is.
    assert pulumi.destroyed() == ["dev", "seed", "idle"]


def test_down_all_names_a_machine_that_no_stack_holds(google: Google, checkout, pulumi, capfd):
    """A state that was lost must not read as "nothing costs money"."""
    google.add_vm("dev")
    number = google.add_vm("ended")
    google.instances[number]["status"] = "STOPPING"
    pulumi(foundation="")

    assert cli.main(["down", "--all", "--yes"]) == 1

    err = capfd.readouterr().err
    assert "still there: mayfly-dev (us-central1-a)." in err
    assert "Try: mayfly doctor" in err
    assert "nothing costs money" not in err


@pytest.mark.parametrize("words", [["dev"], ["--all"]])
def test_down_exits_1_when_the_state_did_not_hold_the_sessions_vm(
    google: Google, checkout, pulumi, capfd, words
):
    """An `up` that was cut off leaves a VM outside its stack: destroying the stack ends nothing."""
    held = google.add_vm("dev")
    google.add_vm("dev")
    pulumi(dev="session", foundation="")
    pulumi.hold(dev=[held])

    assert cli.main(["down", *words, "--yes"]) == 1

    assert "still there: mayfly-dev (us-central1-a)." in capfd.readouterr().err
    assert held not in google.instances


def test_down_exits_1_when_google_does_not_say_that_the_vm_is_gone(
    google: Google, checkout, pulumi, capfd, monkeypatch
):
    """Gone is what was looked for and not found, not what should be."""
    number = google.add_vm("dev")
    pulumi(dev="session")
    pulumi.hold(dev=[number])
    looks = iter([vms.all_of_ours, unreachable])
    monkeypatch.setattr(vms, "all_of_ours", lambda cloud: next(looks)(cloud))

    assert cli.main(["down", "dev", "--yes"]) == 1

    assert (
        "Whether mayfly-dev (us-central1-a) is gone was not to be seen: compute: no answer\n"
        "What the stacks held was destroyed"
    ) in capfd.readouterr().err


def unreachable(_: object) -> None:
    raise CloudError(0, "unreachable", "compute: no answer")


def test_down_refuses_when_it_is_a_foundation(google: Google, checkout, pulumi, capfd):
    """See above; whoever means it can say so to pulumi."""
    (checkout / "Pulumi.foundation.yaml").write_text("config:\n  mayfly:layer: foundation\n")
    pulumi(foundation="")

    assert cli.main(["down", "foundation", "--yes"]) == 2

    # `pulumi destroy` alone is refused: the weights are protected.
    err = capfd.readouterr().err
    assert "its bucket of weights is protected" in err
    assert err.rstrip().endswith(
        "gcloud storage rm 'gs://p-for-tests-mayfly-weights/**'; pulumi state unprotect --all "
        "--yes --stack foundation && pulumi destroy --stack foundation"
    )
    assert pulumi.destroyed() == []


def test_down_asks_when_nobody_said_yes(google: Google, checkout, pulumi, capfd, monkeypatch):
    """A session may hold an hour of somebody's work."""
    google.add_vm("dev", age_s=1800)
    pulumi(dev="session")
    read, write = os.pipe()
    os.close(write)
    with os.fdopen(read) as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        assert cli.main(["down", "dev"]) == 2

    assert "dev (ran 30 min, about $13.0" in capfd.readouterr().err
    assert pulumi.destroyed() == []


def test_down_goes_on_and_exits_1_when_one_stack_fails(google: Google, checkout, pulumi, capfd):
    """One stuck stack must not keep the others on the bill."""
    pulumi(dev="session", seed="seed")
    os.environ["STUB_FAILS"] = "dev"

    assert cli.main(["down", "--all", "--yes"]) == 1

    assert pulumi.destroyed() == ["dev", "seed"]
    err = capfd.readouterr().err
    assert "Not destroyed: dev." in err
    assert "seed is gone" in err


def test_down_says_what_to_install_when_there_is_no_pulumi(google: Google, checkout, capfd):
    """The one thing that a fresh machine lacks."""
    os.environ["PATH"] = str(checkout)

    assert cli.main(["down", "dev", "--yes"]) == 2

    assert "make engine" in capfd.readouterr().err


def test_seed_sets_the_profile_and_brings_the_stack_up(google: Google, checkout, pulumi):
    """One command from a profile's name to weights in the bucket."""
    (checkout / "Pulumi.seed.yaml").write_text("config:\n  mayfly:layer: seed\n")
    pulumi(foundation="")

    assert cli.main(["seed", "kimi-k2.6"]) == 0

    lines = (checkout / "pulumi.log").read_text().splitlines()
    assert "stack init seed" in lines
    assert "config set mayfly:profile kimi-k2.6 --stack seed" in lines
    assert "config set mayfly:layer seed --stack seed" not in lines
    assert lines[-1] == "up --yes --skip-preview --stack seed"


def test_seed_writes_machine_and_rate_when_the_stack_has_none(google: Google, checkout, pulumi):
    """A second seed under another name must not fail over a price that nobody knows by heart."""
    pulumi(foundation="")

    assert cli.main(["seed", "kimi-k2.6", "--stack", "other"]) == 0

    lines = (checkout / "pulumi.log").read_text().splitlines()
    for line in (
        "config set mayfly:machine n2-standard-8 --stack other",
        "config set mayfly:zone us-central1-a --stack other",
        "config set mayfly:hourlyUsd 0.3885 --stack other",
    ):
        assert line in lines
    assert any(line.startswith("config set mayfly:rateSource Google's general") for line in lines)
    assert any(line.startswith("config set mayfly:rateDate 2025-06-01") for line in lines)


def test_seed_leaves_a_rate_alone_when_somebody_wrote_it(google: Google, checkout, pulumi):
    """The user's own price is the truth about the user's own bill."""
    (checkout / "Pulumi.seed.yaml").write_text(
        "config:\n  mayfly:layer: seed\n  mayfly:hourlyUsd: '0.2'\n"
    )
    pulumi(foundation="")

    assert cli.main(["seed", "kimi-k2.6"]) == 0

    assert "hourlyUsd" not in (checkout / "pulumi.log").read_text()


def test_seed_asks_for_a_price_when_the_table_knows_none(google: Google, checkout, pulumi, capfd):
    """A neighbour's price would be believed."""
    (checkout / "Pulumi.seed.yaml").write_text(
        "config:\n  mayfly:layer: seed\n  mayfly:zone: europe-west4-a\n"
    )
    pulumi(foundation="")

    assert cli.main(["seed", "kimi-k2.6"]) == 2

    assert "a price for n2-standard-8 in europe-west4-a, on-demand" in capfd.readouterr().err
    assert not (checkout / "pulumi.log").exists()


def test_command_exits_2_at_once_when_the_shells_storage_is_gone(
    google: Google, checkout, pulumi, capfd
):
    """Pulumi would ask a local cloud that was ended for minutes, without a word."""
    pulumi(dev="session")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
    os.environ["STORAGE_EMULATOR_HOST"] = address

    assert cli.main(["down", "dev", "--yes"]) == 2

    err = capfd.readouterr().err
    assert f"STORAGE_EMULATOR_HOST is {address}, where nothing answers." in err
    assert "Try: a new shell" in err
    assert not (checkout / "pulumi.log").exists()


def test_seed_writes_the_project_only_when_the_shell_does_not_name_it(
    google: Google, checkout, pulumi, monkeypatch
):
    """A local cloud's project left in a tracked file would be the next real seed's."""
    pulumi(foundation="")
    assert cli.main(["seed", "kimi-k2.6"]) == 0
    assert "gcp:project" not in (checkout / "pulumi.log").read_text()
    for name in names.PROJECT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    (checkout / "Pulumi.foundation.yaml").write_text("config:\n  gcp:project: mine\n")

    assert cli.main(["seed", "kimi-k2.6"]) == 0

    assert "config set gcp:project mine --stack seed" in (checkout / "pulumi.log").read_text()


def test_seed_refuses_when_the_stack_is_a_session(google: Google, checkout, pulumi, capfd):
    """Turning a running session into a seed would replace its VM."""
    (checkout / "Pulumi.dev.yaml").write_text("config: {}\n")
    pulumi(dev="session")

    assert cli.main(["seed", "kimi-k2.5", "--stack", "dev"]) == 2

    assert "'dev' is a session, not a seed" in capfd.readouterr().err
