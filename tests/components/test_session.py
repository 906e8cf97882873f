"""A session: what it makes, what it tells the VM, when it refuses."""

import base64
import hashlib
import io
import json
import tarfile
from typing import Any

import pulumi
import pytest

from tests.components import layers
from tests.components.mocks import PROJECT, Refused

LIVE = {
    "machineType": "a3-highgpu-8g",
    "schedulings": [{"provisioningModel": "SPOT", "maxRunDurations": [{"seconds": 14_400}]}],
}


def state_with_vm(zone: str = "us-central1-a"):
    urn = "urn:pulumi:dev::mayfly::gcp:compute/instance:Instance::node-vm"
    resource = {"type": "gcp:compute/instance:Instance", "outputs": {"zone": zone}}
    return lambda args: {"name": args["stackName"], "outputs": {urn: resource}}


def alive(zone: str = "us-central1-a", **changed):
    """The calls of a backend whose stack has a VM that Compute still knows."""
    return {
        **layers.fresh(),
        layers.OWN_STATE: state_with_vm(zone),
        layers.INSTANCE: lambda args: {**LIVE, **changed},
    }


def gone(args):
    raise Refused(
        "invoke of gcp:compute/getInstance:getInstance failed: googleapi: Error 404: The resource "
        "'projects/proj-1/zones/us-central1-a/instances/mayfly-dev' was not found, notFound"
    )


def unknown_stack(args):
    raise Refused(f'unknown stack "{args["name"]}"')


def test_session_owns_a_vm_and_its_readiness_when_it_is_built():
    """What the reaper has to take away with few rights must be little."""
    world = layers.session()

    real = [m.type for m in world.made if not m.type.startswith("mayfly:")]
    assert real == ["gcp:compute/instance:Instance", "command:local:Command"]


def test_session_vm_ends_itself_when_all_of_ours_is_dead():
    """The one deadline that needs no function, no watchdog and no network."""
    scheduling = layers.session(maxHours="2").one("Instance").inputs["scheduling"]

    assert scheduling == {
        "provisioningModel": "SPOT",
        "preemptible": True,
        "automaticRestart": False,
        "onHostMaintenance": "TERMINATE",
        "instanceTerminationAction": "DELETE",
        "maxRunDuration": {"seconds": 7200},
    }


@pytest.mark.parametrize(
    ("provisioning", "model", "affinity"),
    [
        ("spot", "SPOT", None),
        ("flex-start", "FLEX_START", {"type": "NO_RESERVATION"}),
        ("on-demand", "STANDARD", None),
    ],
)
def test_session_vm_is_provisioned_as_asked_when_the_model_changes(provisioning, model, affinity):
    """`preemptible` outside SPOT, or flex-start without its affinity, is a 400."""
    inputs = layers.session(provisioning=provisioning).one("Instance").inputs

    assert inputs["scheduling"]["provisioningModel"] == model
    assert inputs["scheduling"]["preemptible"] is (model == "SPOT")
    assert inputs["scheduling"]["instanceTerminationAction"] == "DELETE"
    assert inputs.get("reservationAffinity") == affinity


@pytest.mark.parametrize(("internet", "configs"), [("false", None), ("true", 1)])
def test_session_vm_has_an_address_only_when_node_internet_is_set(internet, configs):
    """The node needs Google's APIs and nothing else."""
    (interface,) = layers.session(nodeInternet=internet).one("Instance").inputs["networkInterfaces"]

    assert interface["subnetwork"] == layers.SUBNET
    assert (len(interface["accessConfigs"]) if "accessConfigs" in interface else None) == configs


def test_session_tells_the_vm_all_that_it_needs_when_it_boots():
    """The contract with startup/: every key of docs/architecture.md, and no secret."""
    metadata = layers.session(startedBy="ann").one("Instance").inputs["metadata"]
    told = json.loads(metadata["mayfly-settings"])

    weights = f"gs://{PROJECT}-mayfly-weights"
    expected = {
        "layer": "session",
        "session": "dev",
        "profile": "kimi-k2.5",
        "started_by": "ann",
        "project": PROJECT,
        "region": "us-central1",
        "zone": "us-central1-a",
        "weights_bucket": f"{PROJECT}-mayfly-weights",
        "cache_bucket": f"{PROJECT}-mayfly-cache",
        "state_bucket": f"{PROJECT}-mayfly-state",
        "hourly_usd": 52.96,
        "rate_source": "a price page",
        "rate_date": "2026-09-19",
        "provisioning": "spot",
        "machine": "a3-highgpu-8g",
        "max_life_s": 14_400,
        "idle_s": 1200,
        "start_s": 1800,
        "failed_s": 300,
        "heartbeat_s": 300,
        "model": "moonshotai/Kimi-K2.5",
        "driver_branch": "580",
        "driver_uri": f"{weights}/drivers/580",
        "engine": "0.24.0",
        "served_model": "kimi-k2.5",
        "port": 8000,
        "mode": "fast",
        "safe_flags": [],
        "load_format": "instanttensor",
        "kernel_caches": "1",
        "api_key_secret": f"projects/{PROJECT}/secrets/mayfly-api-key",
        "gpu_count": 8,
    }
    assert {key: told[key] for key in expected} == expected
    assert told["weights_uri"] == f"{weights}/models/moonshotai--Kimi-K2.5/{told['revision']}"
    assert told["engine_uri"].startswith(f"{weights}/engines/vllm-0.24.0-")
    assert "--tensor-parallel-size=8" in told["serve_flags"]
    assert layers.FOUNDATION["api_key"] not in json.dumps(metadata)


def test_session_vm_knows_the_safe_way_when_its_mode_is_another():
    """What fails its check is served the safe way, at once: nobody is there to change settings."""
    fast, long = _told(mode="fast"), _told(mode="long", kernelCaches="false")

    assert long["safe_flags"] == fast["serve_flags"] != long["serve_flags"]
    assert long["kernel_caches"] == ""  # bash reads it: empty is no


def _told(**config: str) -> dict[str, Any]:
    metadata = layers.session(**config).one("Instance").inputs["metadata"]
    return json.loads(metadata["mayfly-settings"])


def test_session_packs_the_startup_files_when_it_is_built():
    """boot.sh refuses an archive that is not the one its digest names."""
    metadata = layers.session().one("Instance").inputs["metadata"]
    data = base64.b64decode(metadata["mayfly-archive"])

    assert hashlib.sha256(data).hexdigest() == metadata["mayfly-archive-sha256"]
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = tar.getnames()
    assert {"mayfly/idle.py", "startup/lib.sh"} <= set(names)
    assert "startup/boot.sh" not in names
    assert metadata["startup-script"].startswith("#!")


def test_session_turns_on_what_watching_needs_when_it_is_built():
    """Without guest attributes the reaper is blind and ends every session as silent."""
    metadata = layers.session().one("Instance").inputs["metadata"]

    for key in (
        "enable-guest-attributes",
        "enable-oslogin",
        "block-project-ssh-keys",
        "serial-port-logging-enable",
    ):
        assert metadata[key] == "TRUE"


def test_session_gives_the_outputs_of_the_contract_when_it_serves():
    """Scripts read these; the key is among them and marked secret."""
    world = layers.session(localPort="9000")

    assert world.secret_names() == {"api_key"}
    assert world.plain_outputs() == {
        "endpoint_url": "http://127.0.0.1:9000/v1",
        "connect_command": "mayfly connect dev",
        "ssh_command": f"gcloud compute ssh mayfly-dev --project {PROJECT} --zone us-central1-a"
        " --tunnel-through-iap",
        "deadline": "2026-11-23T22:00:00Z",
        "hourly_usd": 52.96,
        "session": "dev",
        "profile": "kimi-k2.5",
        "served_model": "kimi-k2.5",
        "project": PROJECT,
        "zone": "us-central1-a",
        "vm_name": "mayfly-dev",
        "vm_id": "4711",
        "phase": "serving",
    }


def test_session_waits_anew_when_the_vm_is_another():
    """An `up` after a preemption must wait for the new VM, under the old name."""
    wait = layers.session().one("Command").inputs

    assert wait["triggers"] == ["4711"]
    assert "delete" not in wait
    assert wait["environment"] == {
        "MAYFLY_PROJECT": PROJECT,
        "MAYFLY_ZONE": "us-central1-a",
        "MAYFLY_VM": "mayfly-dev",
        "MAYFLY_VM_ID": "4711",
        "MAYFLY_READY_PHASE": "serving",
        "MAYFLY_START_S": "1800",
    }


def test_session_keeps_its_vm_when_the_image_family_moves():
    """A new image under the same family must not cost a running 8xH100."""
    assert "bootDisk.initializeParams.image" in layers.session().one("Instance").ignored


def test_session_is_refused_with_the_command_when_there_is_no_foundation():
    """The likeliest first mistake of a new user."""
    with pytest.raises(pulumi.RunError) as caught:
        layers.session(calls={layers.OUTPUTS: unknown_stack})

    text = str(caught.value)
    assert "There is no foundation: no stack 'foundation'" in text
    assert "Nothing was created; nothing is billed." in text
    assert "Try: pulumi stack init foundation && pulumi up --stack foundation" in text


def test_session_names_the_stack_when_its_foundation_is_called_otherwise():
    """`foundationStack` is configuration: the message must not speak of another stack."""
    with pytest.raises(pulumi.RunError, match="no stack 'base'"):
        layers.session(calls={layers.OUTPUTS: unknown_stack}, foundationStack="base")


def test_session_does_not_hide_the_cause_when_the_backend_fails():
    """Calling a broken backend "no foundation" would send the user to make a second one."""

    def broken(args):
        raise Refused("connection refused")

    with pytest.raises(Exception, match="connection refused"):
        layers.session(calls={layers.OUTPUTS: broken})


def test_session_is_refused_when_the_foundation_is_half_made():
    """An `up` of the foundation that failed leaves a stack without its outputs."""
    half = {key: layers.FOUNDATION[key] for key in ("project", "regions")}

    with pytest.raises(pulumi.RunError, match="not complete: it has no output subnets"):
        layers.session(calls=layers.fresh(half))


def test_session_is_refused_when_its_zone_has_no_subnet():
    """Google's message would name a subnetwork that nobody has heard of."""
    with pytest.raises(pulumi.RunError) as caught:
        layers.session(zone="us-east5-a")

    assert "mayfly:zone: 'us-east5-a'" in str(caught.value)
    assert "us-central1" in str(caught.value)


def test_session_is_refused_when_the_foundation_is_in_another_project():
    """Two projects in one backend: the VM would be made where none of its rights are."""
    with pytest.raises(pulumi.RunError, match="in project other-1"):
        layers.session(calls=layers.fresh({**layers.FOUNDATION, "project": "other-1"}))


def test_session_is_refused_in_plain_words_when_its_configuration_is_wrong():
    """The same text as at the desk, and no traceback: RunError is what Pulumi prints plainly."""
    with pytest.raises(pulumi.RunError) as caught:
        layers.session(calls={}, zone="nowhere-1", idleMinutes="-3")

    assert "mayfly:zone: 'nowhere-1'" in str(caught.value)
    assert "mayfly:idleMinutes: '-3'" in str(caught.value)


WEIGHTS = "models/moonshotai--Kimi-K2.5/4d01dfe0332d63057c186e0b262165819efb6611"


@pytest.mark.parametrize(
    ("there", "line"),
    [
        ((), f"no weights for kimi-k2.5: no gs://proj-1-mayfly-weights/{WEIGHTS}/manifest.json."),
        ((f"{WEIGHTS}/manifest.json.old",), "The bucket has no weights for kimi-k2.5"),
        (
            (f"{WEIGHTS}/manifest.json",),
            "The bucket has no engine for kimi-k2.5: no gs://proj-1-mayfly-weights/engines/vllm-0.24.0-",
        ),
    ],
)
def test_session_is_refused_when_its_profile_was_never_seeded(there, line):
    """The VM would find out itself, at eight GPUs' price."""
    with pytest.raises(pulumi.RunError) as caught:
        layers.session(calls={**layers.fresh(), layers.OBJECTS: layers.listed(*there)})

    text = str(caught.value)
    assert line in text
    assert "Nothing was created; nothing is billed." in text
    assert text.endswith("Try: mayfly seed kimi-k2.5")


def test_session_goes_on_with_a_warning_when_the_bucket_may_not_be_listed():
    """Who may make VMs need not be allowed to read the weights; the VM itself looks again."""

    def forbidden(args):
        raise Refused("Error retrieving storage bucket objects: googleapi: Error 403: no list")

    world = layers.session(calls={**layers.fresh(), layers.OBJECTS: forbidden})

    assert world.one("Instance")
    assert "Could not look whether gs://proj-1-mayfly-weights/models/" in world.warnings[0]


def test_session_that_lives_is_not_asked_for_its_weights_when_it_is_brought_up_again():
    """They are in its memory; who removed them from the bucket can still change its outputs."""
    world = layers.session(calls={**alive(), layers.OBJECTS: layers.listed()})

    assert layers.OBJECTS not in world.asked


def test_session_leaves_a_live_vm_alone_when_nothing_changed():
    """The second `up` of every session."""
    world = layers.session(calls=alive())

    assert layers.INSTANCE in world.asked
    assert world.one("Instance")


@pytest.mark.parametrize(
    ("more", "calls", "change"),
    [
        ({"zone": "us-central1-b"}, alive(), "mayfly:zone: us-central1-a -> us-central1-b"),
        ({"provisioning": "on-demand"}, alive(), "mayfly:provisioning: SPOT -> STANDARD"),
        ({"maxHours": "5"}, alive(), "life in seconds: 14400 -> 18000"),
        (
            {},
            alive(machineType="https://x/zones/us-central1-a/machineTypes/a2-ultragpu-8g"),
            "mayfly:machine: a2-ultragpu-8g -> a3-highgpu-8g",
        ),
    ],
)
def test_session_stops_when_an_up_would_replace_a_live_vm(more, calls, change):
    """An edited line of configuration must not cost a loaded 8xH100 and twenty minutes."""
    with pytest.raises(pulumi.RunError) as caught:
        layers.session(calls=calls, **more)

    assert f"This would replace mayfly-dev, which is there and billed: {change}." in str(
        caught.value
    )
    assert "allowReplace" in str(caught.value)


def test_session_replaces_the_vm_when_that_is_allowed():
    """The way on for who means it."""
    world = layers.session(calls=alive(), zone="us-central1-b", allowReplace="true")

    assert world.one("Instance").inputs["zone"] == "us-central1-b"


@pytest.mark.parametrize("allowed", ["true", "false"])
def test_session_stops_when_a_live_vm_was_made_for_another_model(allowed):
    """New metadata loads no other model: the outputs would name one that nobody serves."""
    told = {"mayfly-settings": json.dumps({"profile": "kimi-k2.5", "mode": "fast"})}

    with pytest.raises(pulumi.RunError) as caught:
        layers.session(calls=alive(metadata=told), profile="kimi-k2.6", allowReplace=allowed)

    assert "made for another: mayfly:profile: kimi-k2.5 -> kimi-k2.6." in str(caught.value)
    assert "pulumi destroy --stack dev" in str(caught.value)


def test_session_stops_when_its_vm_has_ended_but_is_still_there():
    """Between the watchdog's power-off and the reaper's look an `up` would change nothing, and
    report an endpoint that is off."""
    with pytest.raises(pulumi.RunError, match=r"has ended \(TERMINATED\) and serves nothing"):
        layers.session(calls=alive(currentStatus="TERMINATED"))


def test_session_changes_model_when_its_vm_is_replaced_anyway():
    """Another zone means another VM, which loads what it is told."""
    told = {"mayfly-settings": json.dumps({"profile": "kimi-k2.5", "mode": "fast"})}
    calls = alive(metadata=told)

    world = layers.session(
        calls=calls, profile="kimi-k2.6", zone="us-central1-b", allowReplace="true"
    )

    assert world.one("Instance").inputs["labels"]["mayfly-profile"] == "kimi-k2-6"


def test_session_makes_a_new_vm_when_the_old_one_is_gone():
    """Preempted, powered off and reaped: state may still hold it, Compute does not."""
    calls = {**alive(), layers.INSTANCE: gone}

    world = layers.session(calls=calls, zone="us-central1-b")

    assert world.one("Instance").inputs["zone"] == "us-central1-b"


def test_session_stops_when_compute_cannot_say_whether_the_vm_lives():
    """ "Unknown" must not be read as "gone"."""

    def denied(args):
        raise Refused("googleapi: Error 403: Required 'compute.instances.get' permission")

    with pytest.raises(Exception, match="Error 403"):
        layers.session(calls={**alive(), layers.INSTANCE: denied}, zone="us-central1-b")


@pytest.mark.parametrize(("url", "warned"), [("file:///tmp/state", True), ("gs://b", False)])
def test_session_warns_when_the_reaper_cannot_reach_its_state(url, warned, monkeypatch):
    """The VM will be ended all the same; the stack would stay and nobody would know why."""
    monkeypatch.setenv("PULUMI_BACKEND_URL", url)

    warnings = " ".join(layers.session().warnings)

    assert ("cannot clean this stack" in warnings) is warned


def test_session_takes_the_project_from_the_environment_when_none_is_configured(monkeypatch):
    """As the provider does: `mayfly local up` exports it."""
    monkeypatch.setenv("GOOGLE_PROJECT", PROJECT)

    world = layers.session(gcp_project="")

    assert world.plain_outputs()["project"] == PROJECT


def test_mocks_refuse_a_call_that_nobody_expects():
    """The twin of every test here: a look-up too many must not pass unseen."""
    with pytest.raises(AssertionError, match="unexpected call"):
        layers.session(calls={})
