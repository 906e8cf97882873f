"""A session that measures one rank: one GPU, no weights, and no endpoint to promise."""

import json

import pulumi
import pytest

from mayfly.settings import ConfigError
from tests.components import layers
from tests.components.test_session import alive

PROBE = {"probe": "a3-highgpu-8g"}


def test_probe_asks_for_one_gpu_of_the_same_kind_when_a_machine_is_named():
    """The price of one GPU is the point of it."""
    world = layers.session(**PROBE)
    vm = world.one("Instance").inputs

    assert vm["machineType"] == "a3-highgpu-1g"
    assert vm["scheduling"]["instanceTerminationAction"] == "DELETE"
    wait = world.one("Command").inputs
    assert wait["environment"]["MAYFLY_READY_PHASE"] == "probed"


def test_probe_tells_its_vm_what_to_measure_and_no_secret():
    """The contract with startup/: the plan's rank, and nothing of a server."""
    metadata = layers.session(**PROBE).one("Instance").inputs["metadata"]
    told = json.loads(metadata["mayfly-settings"])
    case = json.loads(told["case"])

    assert (told["layer"], told["probe"], told["gpu_count"]) == ("probe", "a3-highgpu-8g", 1)
    assert case["config"]["num_attention_heads"] == 8  # of 64
    assert case["decode"] == [1, 8, 64]
    assert not {"api_key_secret", "serve_flags", "port"} & told.keys()


def test_probe_promises_no_endpoint_when_it_is_built():
    """A key or an address would be one of nothing."""
    exported = layers.session(**PROBE).outputs

    assert {"vm_id", "phase", "deadline", "hourly_usd"} <= exported.keys()
    assert not {"endpoint_url", "api_key", "connect_command"} & exported.keys()


def test_probe_stops_when_the_vm_that_lives_measures_another_machines_rank():
    """One GPU is as good for either; its figures would stand beside the wrong plan."""
    told = {"profile": "kimi-k2.5", "mode": "fast", "layer": "probe", "probe": "a3-highgpu-4g"}
    calls = alive(
        machineType="https://x/zones/us-central1-a/machineTypes/a3-highgpu-1g",
        metadata={"mayfly-settings": json.dumps(told)},
    )

    with pytest.raises(pulumi.RunError, match="mayfly:probe: a3-highgpu-4g -> a3-highgpu-8g"):
        layers.session(calls=calls, **PROBE)


def test_probe_needs_the_engine_and_no_weights_when_the_bucket_is_looked_at():
    """A model may be measured before its 600 GB are brought; its engine must be there."""
    engine_only = {**layers.fresh(), layers.OBJECTS: lambda args: only("engines/", args)}
    layers.session(engine_only, **PROBE)

    weights_only = {**layers.fresh(), layers.OBJECTS: lambda args: only("models/", args)}
    with pytest.raises(pulumi.RunError, match="The bucket has no engine for kimi"):
        layers.session(weights_only, **PROBE)


def only(prefix, args):
    there = args["prefix"].startswith(prefix)
    return {**args, "bucketObjects": [{"name": args["prefix"]}] if there else []}


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"probe": "dgx"}, "mayfly:probe: 'dgx'. Valid: a3-highgpu-8g"),
        ({"probe": "a3-ultragpu-8g"}, "No machine is sold with one GPU of its kind."),
        ({"probe": "a2-highgpu-8g"}, "kimi-k2.5 does not fit it: 71.1 GiB of weights"),
        ({**PROBE, "machine": "a3-highgpu-8g"}, "Valid: a3-highgpu-1g."),
    ],
)
def test_probe_is_refused_with_the_key_when_it_cannot_be(keys, says):
    """Before anything exists, in one message."""
    with pytest.raises((ConfigError, pulumi.RunError)) as caught:
        layers.session(**keys)

    assert says in str(caught.value)
