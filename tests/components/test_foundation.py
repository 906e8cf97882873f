"""The foundation: who may do what, and the reaper's function."""

import pytest

from components.private_network import SUBNET_OCTET
from mayfly.machines import REGIONS
from tests.components import layers
from tests.components.mocks import PROJECT, World

STATE = f"projects/_/buckets/{PROJECT}-mayfly-state/objects"

THINGS = ("bucket", "secretId", "serviceAccountId", "cryptoKeyId", "name")
"""The input that names what a binding is on; a project's binding has none of these."""


def email(account: str) -> str:
    return f"serviceAccount:mayfly-{account}@{PROJECT}.iam.gserviceaccount.com"


def rights(world: World, member: str) -> set[tuple[str, str, str]]:
    """(role, on what, condition) of one member."""
    found = set()
    for made in world.made:
        if made.inputs.get("member") != member:
            continue
        inputs = made.inputs
        on = next((inputs[key] for key in THINGS if key in inputs), "project")
        found.add((inputs["role"], on, (inputs.get("condition") or {}).get("expression", "")))
    return found


@pytest.fixture(scope="module")
def world() -> World:
    return layers.foundation()


def test_node_may_read_weights_and_its_key_and_add_to_the_cache_only(world):
    """The one account whose machine runs a stranger's model code."""
    assert rights(world, email("node")) == {
        ("roles/storage.objectViewer", f"{PROJECT}-mayfly-weights", ""),
        ("roles/storage.objectViewer", f"{PROJECT}-mayfly-cache", ""),
        ("roles/storage.objectCreator", f"{PROJECT}-mayfly-cache", ""),
        (
            "roles/storage.objectViewer",
            f"{PROJECT}-mayfly-state",
            f'resource.name.startsWith("{STATE}/leases/")',
        ),
        (
            "roles/secretmanager.secretAccessor",
            f"projects/{PROJECT}/secrets/mayfly-api-key",
            "",
        ),
    }


def test_seeder_may_write_weights_and_read_no_key_of_the_endpoint(world):
    """It talks to the internet; the endpoint's key is none of its business."""
    assert rights(world, email("seeder")) == {
        ("roles/storage.objectUser", f"{PROJECT}-mayfly-weights", ""),
        (
            "roles/storage.objectViewer",
            f"{PROJECT}-mayfly-state",
            f'resource.name.startsWith("{STATE}/leases/")',
        ),
    }


def test_reaper_may_end_our_vms_and_touch_no_state_of_the_foundation(world):
    """It runs unattended every five minutes: what it must never destroy, it must not be able to."""
    found = rights(world, email("reaper"))

    assert {(role, on) for role, on, _ in found} == {
        (f"projects/{PROJECT}/roles/mayflyReaperLook", "project"),
        (f"projects/{PROJECT}/roles/mayflyReaperEnd", "project"),
        ("roles/storage.objectUser", f"{PROJECT}-mayfly-state"),
        ("roles/storage.objectViewer", f"{PROJECT}-mayfly-state"),
    }
    conditions = {role.rpartition("/")[2]: condition for role, _, condition in found}
    assert conditions["mayflyReaperEnd"] == (
        'resource.name.extract("/instances/{name}").startsWith("mayfly-")'
    )
    assert conditions["storage.objectViewer"] == f'resource.name.startsWith("{STATE}/engine/")'
    for path in (
        ".pulumi/stacks/mayfly/foundation.json",
        ".pulumi/history/mayfly/foundation/",
        ".pulumi/backups/mayfly/foundation/",
        ".pulumi/locks/organization/mayfly/foundation/",
        "engine/",
    ):
        assert f'!resource.name.startsWith("{STATE}/{path}")' in conditions["storage.objectUser"]


def test_reaper_deletes_by_a_role_of_its_own_when_the_condition_needs_a_name(world):
    """A list has no instance name, so one conditioned role would forbid the listing."""
    made = world.of("IAMCustomRole")
    roles = {each.inputs["roleId"]: set(each.inputs["permissions"]) for each in made}

    assert roles["mayflyReaperEnd"] == {"compute.instances.delete"}
    assert "compute.instances.list" in roles["mayflyReaperLook"]
    assert not [
        p
        for p in roles["mayflyReaperLook"]
        if p.rpartition(".")[2] not in ("get", "list", "getGuestAttributes")
    ]


def test_scheduler_may_call_the_function_and_nothing_else(world):
    """Whoever could call the function could make it look; nobody else may even that."""
    assert rights(world, email("scheduler")) == {("roles/run.invoker", "mayfly-reaper", "")}


def test_build_reads_sources_and_writes_images_only(world):
    """The default build account may do nearly everything."""
    found = rights(world, email("build"))

    assert {role for role, _, _ in found} == {
        "roles/logging.logWriter",
        "roles/artifactregistry.writer",
        "roles/storage.objectViewer",
    }
    (condition,) = [c for role, _, c in found if role.endswith("objectViewer")]
    assert f"{PROJECT}-mayfly-source/objects/" in condition
    assert "gcf-v2-sources-" in condition


def test_reaper_may_unseal_state_when_a_key_is_configured():
    """Without it the function could not read the secrets of the stack it has to destroy."""
    key = "projects/proj-1/locations/us/keyRings/r/cryptoKeys/k"
    found = rights(layers.foundation(stateKey=key), email("reaper"))

    assert ("roles/cloudkms.cryptoKeyDecrypter", key, "") in found


@pytest.mark.parametrize("secret", ["hub-token", f"projects/{PROJECT}/secrets/hub-token"])
def test_seeder_may_read_the_hub_token_when_one_is_configured(secret):
    """A short id and a full one mean the same."""
    world = layers.foundation(hfTokenSecret=secret)
    path = f"projects/{PROJECT}/secrets/hub-token"

    assert ("roles/secretmanager.secretAccessor", path, "") in rights(world, email("seeder"))
    assert world.plain_outputs()["hf_token_secret"] == path


def test_member_may_tunnel_to_ssh_log_in_keep_and_read_the_key_when_listed():
    """All that `status`, `connect`, `logs` and `keep` need, and no port but 22."""
    found = rights(layers.foundation(members='["user:ann@example.com"]'), "user:ann@example.com")

    assert found == {
        ("roles/iap.tunnelResourceAccessor", "project", "destination.port == 22"),
        ("roles/compute.osLogin", "project", ""),
        (
            f"projects/{PROJECT}/roles/mayflyMemberHear",
            "project",
            'resource.name.extract("/instances/{name}").startsWith("mayfly-")',
        ),
        (
            "roles/storage.objectUser",
            f"{PROJECT}-mayfly-state",
            f'resource.name.startsWith("{STATE}/leases/")',
        ),
        (
            "roles/secretmanager.secretAccessor",
            f"projects/{PROJECT}/secrets/mayfly-api-key",
            "",
        ),
        *(
            ("roles/iam.serviceAccountUser", f"projects/{PROJECT}/serviceAccounts/{account}", "")
            for account in (
                f"mayfly-node@{PROJECT}.iam.gserviceaccount.com",
                f"mayfly-seeder@{PROJECT}.iam.gserviceaccount.com",
            )
        ),
    }


def test_members_of_one_slug_keep_apart_when_their_names_are_alike():
    """`a.b@x` and `a-b@x` would be one resource name, and the second `up` an error."""
    world = layers.foundation(members='["user:a.b@example.com", "user:a-b@example.com"]')

    assert rights(world, "user:a.b@example.com")
    assert rights(world, "user:a-b@example.com")


def test_reaper_function_runs_alone_inside_and_as_itself(world):
    """Two at once would fight over a lock; a public one would be everybody's."""
    function = world.one("Function").inputs
    config = function["serviceConfig"]

    assert (config["maxInstanceCount"], config["maxInstanceRequestConcurrency"]) == (1, 1)
    assert (config["availableMemory"], config["availableCpu"]) == ("4Gi", "2")
    assert config["timeoutSeconds"] == 600
    assert config["ingressSettings"] == "ALLOW_INTERNAL_ONLY"
    assert config["serviceAccountEmail"] == email("reaper").partition(":")[2]
    assert function["buildConfig"]["serviceAccount"].endswith(email("build").partition(":")[2])
    assert config["environmentVariables"] == {
        "MAYFLY_PROJECT": PROJECT,
        "MAYFLY_STATE_BUCKET": f"{PROJECT}-mayfly-state",
        "MAYFLY_FOUNDATION_STACK": "foundation",
    }


def test_reaper_source_is_named_by_its_hash_when_it_is_uploaded(world):
    """Under a name that stays, a new reaper would never be deployed."""
    source = world.one("BucketObject").inputs
    built_from = world.one("Function").inputs["buildConfig"]["source"]["storageSource"]

    assert source["name"].startswith("reaper-")
    assert built_from == {"bucket": source["bucket"], "object": source["name"]}


def test_scheduler_wakes_the_reaper_every_five_minutes_and_never_twice(world):
    """A retry would run beside the attempt that is only slow."""
    job = world.one("Job").inputs

    assert job["schedule"] == "*/5 * * * *"
    assert job["retryConfig"] == {"retryCount": 0}
    assert job["attemptDeadline"] == "630s"
    assert job["httpTarget"]["oidcToken"] == {
        "audience": "https://reaper.run/",
        "serviceAccountEmail": email("scheduler").partition(":")[2],
    }


def test_key_is_made_once_and_kept_secret_when_the_foundation_comes_up(world):
    """It opens the endpoint: not in a log, not in an output in the clear, not new at each `up`."""
    made = world.one("Command")

    assert made.secret_outputs == ("stdout",)
    assert made.inputs["logging"] == "none"
    assert made.ignored == ("create",)
    assert world.secret_names() == {"api_key"}


def test_weights_are_protected_when_the_foundation_is_destroyed(world):
    """Half an hour and a terabyte of traffic to bring back."""
    buckets = {m.inputs["name"]: m for m in world.of("Bucket")}

    assert buckets[f"{PROJECT}-mayfly-weights"].protect
    assert not buckets[f"{PROJECT}-mayfly-weights"].inputs["forceDestroy"]
    assert buckets[f"{PROJECT}-mayfly-cache"].inputs["forceDestroy"]


def test_subnets_stand_in_each_region_and_keep_their_place_when_one_is_added():
    """A subnet that moved would take every running session's network with it."""
    one = layers.foundation()
    two = layers.foundation(regions='["us-east5", "us-central1"]')

    ranges = [{m.name: m.inputs["ipCidrRange"] for m in w.of("Subnetwork")} for w in (one, two)]
    assert set(ranges[0].items()) < set(ranges[1].items())
    assert set(two.plain_outputs()["subnets"]) == {"us-east5", "us-central1"}


def test_every_region_has_a_subnet_range_of_its_own():
    """A machine type added with a new region must not find the table without it."""
    assert set(SUBNET_OCTET) == set(REGIONS)
    assert len(set(SUBNET_OCTET.values())) == len(SUBNET_OCTET)


def test_foundation_gives_every_output_that_the_others_read(world):
    """The contract between the stacks, from both sides."""
    assert set(world.outputs) == set(layers.FOUNDATION)


def test_foundation_asks_nobody_anything_when_it_is_built(world):
    """The first `up` in a project has nothing to ask."""
    assert not world.asked


def test_apis_stay_on_when_the_foundation_goes(world):
    """Others in the project may use them."""
    services = world.of("Service")

    assert {False} == {m.inputs["disableOnDestroy"] for m in services}
    assert "compute.googleapis.com" in {m.inputs["service"] for m in services}
