"""What each command prints with --json has the shape that scripts are written against.

Daily commands are in test_bad_days.py too, each on three kinds of day.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from local.rest.quotas import Quotas
from local.rest.world import World
from mayfly import cli
from tests.bench.results import phase, result
from tests.conftest import ROOT
from tests.desk import schemas, schemas_launch, tree
from tests.desk.google import Google
from tests.desk.project import serving, switch_on
from tests.desk.pulumi_stub import Pulumi
from tests.desk.schemas_launch import PLAN

K = "kimi-k2.5"
HERE = (K, "--region", "us-central1", "--json")
H200 = ("--machine", "a3-ultragpu-8g", "--json")
A100 = ("--machine", "a2-ultragpu-8g")
SPOT_H100 = "PREEMPTIBLE-NVIDIA-H100-GPUS-per-project-region"
SAYS = [
    # Command, its words, the exit code, the shape; first those that ask nobody.
    ("plan", [K, "--json"], 0, PLAN),
    ("plan", [K, "--kv", "fp8", "--budget", "100", "--json"], 0, PLAN),
    ("plan", [K, "--zone", "europe-west3-c", "--json"], 0, PLAN),
    ("plan", ["kimi-k3", "--nodes", "2", *H200], 0, PLAN),
    ("plan", ["kimi-k3", *H200], 3, schemas_launch.PLAN_NO),
    ("plan", ["--json"], 0, schemas_launch.PROFILES),
    ("plan", ["--all", "--json"], 0, schemas_launch.PLAN_ALL),
    ("profile check", ["--json"], 0, schemas_launch.PROFILE_CHECK),
    ("cost", ["--break-even", "--json"], 0, schemas.BREAK_EVEN),
    ("doctor", ["--log", "vm.log", "--json"], 3, schemas_launch.DOCTOR_LOG),
    ("bench compare", ["a.json", "b.json", "--json"], 0, schemas_launch.COMPARED),
    ("quota list", ["--json"], 0, schemas_launch.QUOTA_LIST),
    ("quota check", [*HERE, *A100], 0, schemas_launch.QUOTA_CHECK),
    ("quota check", [*HERE], 3, schemas_launch.QUOTA_CHECK),
    ("quota request", [*HERE, *A100], 0, schemas_launch.QUOTA_REQUEST),
    ("quota request", [*HERE, "--email", "a@b.example", "--yes"], 3, schemas_launch.QUOTA_REQUEST),
    ("capacity", [*HERE], 0, schemas_launch.CAPACITY),
    ("up", ["--yes", *A100, "--json"], 0, schemas_launch.UP),
    ("up", ["--dry-run", "--json"], 0, schemas_launch.UP_DRY),
    ("status", ["--json"], 0, schemas.STATUS),
    ("idle", ["dev", "--json"], 0, schemas.IDLE),
    ("keep", ["1h", "dev", "--json"], 0, schemas.KEEP),
]
GROUNDS = {
    **dict.fromkeys(("quota list", "quota check", "quota request", "capacity"), "world"),
    **dict.fromkeys(("status", "idle", "keep"), "dev"),
    "up": "launchable",
}
HELD_ELSEWHERE = {
    "connect": ("tests/desk/test_connect.py", "check(schemas.CONNECT, "),
    "demo": ("tests/desk/test_demo_parts.py", "check(schemas_launch.DEMO, "),
    "probe": ("tests/bench/test_probe.py", "check(schemas_launch.PROBE, "),
    "bench run": ("tests/desk/test_bench.py", "validate(json.loads(capfd.readouterr().out), "),
    "status --watch": ("tests/desk/test_status.py", "check(schemas.WATCH, "),
    "doctor without a log": ("tests/desk/test_doctor.py", "check(schemas_launch.DOCTOR, "),
}


@pytest.fixture
def world(checkout: Path) -> Iterator[World]:
    """A project that is granted no eight H100."""
    made = World("proj")
    with serving(made) as environment:
        os.environ.update(environment)
        switch_on(made, "compute", "cloudquotas")
        made.of(Quotas).limits[SPOT_H100] = [({"region": "us-central1"}, 1)]
        yield made


@pytest.fixture
def dev(google: Google, checkout: Path) -> Google:
    """A session that serves."""
    google.add_vm("dev", state_bucket="state", started_by="ann@example.com")
    google.serving("dev", idle_s=60)
    return google


@pytest.fixture
def launchable(seeded: Google, checkout: Path, pulumi: Pulumi) -> None:
    """A Pulumi whose next `up` makes a VM."""
    pulumi.up({"state": ["7"]})


@pytest.mark.parametrize(
    ("command", "words", "code", "schema"),
    SAYS,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_json_has_its_shape(command, words, code, schema, checkout: Path, request, capfd):
    """Every key is there, known or null, and no other comes and goes."""
    for name in "ab":
        (checkout / f"{name}.json").write_text(json.dumps(result(phase())))
    (checkout / "vm.log").write_text("E: Could not get lock /var/lib/dpkg/lock-frontend\n")
    request.getfixturevalue(GROUNDS.get(command, "checkout"))

    assert cli.main([*command.split(), *words]) == code

    schemas.check(schema, json.loads(capfd.readouterr().out))


def test_every_command_with_json_has_a_shape_and_is_held_to_it():
    """A new command is in the tables above, or this is red."""
    held = {command for command, *_ in SAYS} | set(HELD_ELSEWHERE)
    wanted = {name for name, options in tree.commands().items() if "--json" in options}

    assert wanted <= held
    for file, how in HELD_ELSEWHERE.values():
        assert how in (ROOT / file).read_text(), file


@pytest.mark.parametrize("change", [{"fits": "yes"}, {"unheard_of": 1}, {"rate_date": "June"}])
def test_shape_sees_red_when_a_plan_has_another(change, checkout, capfd):
    """The twin: a schema that takes everything proves nothing."""
    assert cli.main(["plan", K, "--json"]) == 0

    with pytest.raises(jsonschema.ValidationError):
        schemas.check(PLAN, json.loads(capfd.readouterr().out) | change)
