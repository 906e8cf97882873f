"""The demo's checks must see red: each one here is fed the case that it is there for."""

import json

import pytest

from mayfly import vms
from mayfly.cloud import connect
from mayfly.demo.evidence import Witness
from tests.desk.google import PROJECT, Google

STATE = "state"


@pytest.fixture
def witness(google: Google) -> Witness:
    return Witness(connect(PROJECT), STATE)


def put_state(google: Google, stack: str, *types: str) -> None:
    resources = [{"type": t} for t in ("pulumi:pulumi:Stack", *types)]
    checkpoint = {"version": 3, "checkpoint": {"latest": {"resources": resources}}}
    google.objects[STATE, f".pulumi/stacks/mayfly/{stack}.json"] = json.dumps(checkpoint).encode()


def vm_of(google: Google, session: str) -> vms.Vm:
    return vms.parse(google.instances[google.add_vm(session)])


def test_nothing_is_left_when_everything_is_gone(google: Google, witness: Witness):
    """The pulumi's own bookkeeping costs nothing and stays."""
    vm = vm_of(google, "demo")
    google.instances.clear()
    put_state(google, "demo")

    assert witness.left("demo", vm) == []
    assert witness.is_gone(vm)


def test_a_disk_is_left_when_only_the_vm_went(google: Google, witness: Witness):
    """A boot disk without its VM goes on costing money unseen."""
    vm = vm_of(google, "demo")
    google.instances.clear()
    google.disks.append({"name": "mayfly-demo"})
    google.disks.append({"name": "somebody-elses"})
    put_state(google, "demo")

    assert witness.left("demo", vm) == ["disk mayfly-demo"]


def test_resources_are_left_when_the_state_still_holds_them(google: Google, witness: Witness):
    """A stack that thinks it has a VM fails the next `up`."""
    vm = vm_of(google, "demo")
    put_state(google, "demo", "gcp:compute/instance:Instance")

    assert witness.left("demo", vm) == ["mayfly-demo", "gcp:compute/instance:Instance"]
    assert not witness.is_gone(vm)


def put_weights(google: Google, **files: str) -> str:
    entries = [
        {"name": f"{name}.safetensors", "size": len(data), "crc32c": f"sum-of-{data}"}
        for name, data in files.items()
    ]
    google.objects["weights", "models/m/manifest.json"] = json.dumps({"files": entries}).encode()
    for name, data in files.items():
        google.objects["weights", f"models/m/{name}.safetensors"] = data.encode()
    return "gs://weights/models/m"


def test_weights_are_whole_when_the_bucket_holds_the_manifests_files(
    google: Google, witness: Witness
):
    """The twin of the three below."""
    assert witness.weights_problems(put_weights(google, a="one", b="two")) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (None, "a.safetensors is missing"),
        (b"eno", "a.safetensors differs"),
        (b"o", "a.safetensors differs"),
    ],
)
def test_weights_have_a_problem_when_a_shard_is_not_as_promised(
    google: Google, witness: Witness, change, problem
):
    """A model with a bad shard answers nonsense, at GPU prices."""
    uri = put_weights(google, a="one", b="two")
    del google.objects["weights", "models/m/a.safetensors"]
    if change is not None:
        google.objects["weights", "models/m/a.safetensors"] = change

    assert witness.weights_problems(uri) == [problem]


def test_weights_have_a_problem_when_there_is_no_manifest(google: Google, witness: Witness):
    """Without it nobody knows what whole means."""
    assert witness.weights_problems("gs://weights/models/m") == [
        "no manifest.json in gs://weights/models/m"
    ]
    assert witness.weights_problems(put_weights(google)) == ["no weights in the manifest"]


def test_history_is_read_in_order_when_the_bucket_lists_it(google: Google, witness: Witness):
    """The state bucket itself says that it came up and was destroyed."""
    for number, kind in ((2, "destroy"), (1, "update")):
        name = f".pulumi/history/mayfly/demo/demo-{number}"
        google.objects[STATE, f"{name}.history.json"] = json.dumps({"kind": kind}).encode()
        google.objects[STATE, f"{name}.checkpoint.json"] = b"{}"

    assert witness.history("demo") == ["update", "destroy"]


FOUNDATION = {f"{PROJECT}-mayfly-{kind}" for kind in ("weights", "cache", "source")}


def test_foundation_is_whole_when_everything_of_it_is_there(google: Google, witness: Witness):
    """The twin of the one below."""
    google.named = FOUNDATION | {"mayfly-reaper"}
    google.secrets[f"projects/{PROJECT}/secrets/mayfly-api-key"] = "sk"

    assert witness.foundation_problems("us-central1") == []


def test_foundation_has_problems_when_parts_went_with_the_session(google: Google, witness: Witness):
    """A teardown that takes the reaper or the weights' bucket takes them from every session."""
    google.named = FOUNDATION - {f"{PROJECT}-mayfly-cache"}

    assert witness.foundation_problems("us-central1") == [
        "bucket cache",
        "the reaper's function",
        "the API key",
    ]
