"""A seed: a CPU VM with a way out and a deadline."""

import json

from tests.components import layers
from tests.components.mocks import PROJECT


def test_seed_owns_a_vm_and_its_readiness_when_it_is_built():
    """It is reaped like a session, with the same few rights."""
    world = layers.seed()

    real = [m.type for m in world.made if not m.type.startswith("mayfly:")]
    assert real == ["gcp:compute/instance:Instance", "command:local:Command"]


def test_seed_vm_reaches_the_hub_and_is_reached_by_nobody_when_it_is_built():
    """An ephemeral address instead of a NAT gateway, behind the same firewall."""
    vm = layers.seed().one("Instance").inputs

    assert vm["networkInterfaces"][0]["accessConfigs"] == [{"networkTier": "PREMIUM"}]
    assert vm["tags"] == ["mayfly-vm"]
    assert vm["serviceAccount"]["email"] == layers.FOUNDATION["seeder_email"]


def test_seed_vm_ends_itself_when_nothing_else_does():
    """On demand, so not preempted, and all the same deleted by Google in the end."""
    scheduling = layers.seed(maxHours="1").one("Instance").inputs["scheduling"]

    assert scheduling == {
        "provisioningModel": "STANDARD",
        "preemptible": False,
        "automaticRestart": False,
        "onHostMaintenance": "TERMINATE",
        "instanceTerminationAction": "DELETE",
        "maxRunDuration": {"seconds": 3600},
    }


def test_seed_tells_the_vm_what_to_fetch_when_it_boots():
    """The contract with startup/seed.py, and no key of the endpoint."""
    foundation = {**layers.FOUNDATION, "hf_token_secret": "projects/p/secrets/t"}
    world = layers.seed(calls=layers.fresh(foundation))
    told = json.loads(world.one("Instance").inputs["metadata"]["mayfly-settings"])

    assert told["layer"] == "seed"
    assert told["model"] == "moonshotai/Kimi-K2.5"
    assert told["hf_token_secret"] == "projects/p/secrets/t"
    assert (told["disk_gb"], told["parallel"]) == (200, 4)
    assert told["engine_lock"] == "vllm-0.24.0.lock"
    assert "api_key_secret" not in told


def test_seed_and_session_name_the_same_places_when_the_profile_is_the_same():
    """What one writes the other must find."""
    keys = ("weights_uri", "engine_uri", "driver_uri", "revision")
    seed, session = (
        json.loads(world.one("Instance").inputs["metadata"]["mayfly-settings"])
        for world in (layers.seed(), layers.session())
    )

    assert {key: seed[key] for key in keys} == {key: session[key] for key in keys}


def test_seed_waits_as_long_as_the_vm_may_live_when_weights_are_large():
    """600 GB take longer than a start."""
    environment = layers.seed(maxHours="2").one("Command").inputs["environment"]

    assert environment["MAYFLY_READY_PHASE"] == "seeded"
    assert environment["MAYFLY_START_S"] == "7200"


def test_seed_gives_the_outputs_of_the_contract_when_it_is_done():
    """Nothing secret among them."""
    world = layers.seed()
    outputs = world.plain_outputs()

    assert not world.secret_names()
    assert set(outputs) == {
        "session",
        "profile",
        "model",
        "weights_uri",
        "vm_name",
        "vm_id",
        "zone",
        "phase",
    }
    assert outputs["weights_uri"].startswith(f"gs://{PROJECT}-mayfly-weights/models/moonshotai--")
