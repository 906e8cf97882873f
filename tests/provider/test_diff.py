"""Which changes are changes, which replace, and what is deleted first."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from local.provider.google import Google
from local.provider.messages import Difference, RefusedError
from local.provider.same import image
from local.provider.values import UNKNOWN
from tests.provider.conftest import asking, configured
from tests.provider.playback import Playback

INSTANCE = "gcp:compute/instance:Instance"
IMAGE = "ubuntu-accelerator-2404-amd64-with-nvidia-580-v20261110"
FULL = f"https://www.googleapis.com/compute/v1/projects/images/global/images/{IMAGE}"
LINK = "https://www.googleapis.com/compute/v1/projects/proj/global/networks/mayfly"
INPUTS: dict[str, Any] = {
    "__defaults": [],
    "name": "mayfly-dev",
    "machineType": "a3-highgpu-8g",
    "zone": "us-central1-a",
    "bootDisk": {"initializeParams": {"image": f"projects/images/global/images/{IMAGE}"}},
    "networkInterfaces": [{"network": "mayfly"}],
    "scheduling": {"preemptible": True, "maxRunDuration": {"seconds": 3600}},
    "serviceAccount": {"email": "node@proj", "scopes": ["cloud-platform"]},
    "labels": {"mayfly": "session"},
    "tags": ["a", "b"],
}
STATE: dict[str, Any] = {
    **{key: value for key, value in INPUTS.items() if key != "__defaults"},
    "project": "proj",
    "bootDisk": {"initializeParams": {"image": FULL, "size": 200}, "autoDelete": True, "mode": ""},
    "networkInterfaces": [{"network": LINK, "networkIp": "10.0.0.2", "accessConfigs": []}],
    "scheduling": {
        "preemptible": True,
        "automaticRestart": True,
        "maxRunDuration": {"seconds": 3600, "nanos": 0},
    },
    "serviceAccount": {
        "email": "node@proj",
        "scopes": ["https://www.googleapis.com/auth/cloud-platform"],
    },
    "tags": ["b", "a"],
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The inputs with one value changed."""
    inputs = copy.deepcopy(INPUTS)
    node: Any = inputs
    *parents, leaf = path.split(".")
    for name in parents:
        node = node[int(name) if name.isdigit() else name]
    node[leaf] = value
    return inputs


def diff(provider: Google, inputs: dict[str, Any], **more: Any) -> Difference:
    state = {**STATE, **more.pop("state", {})}
    return provider.diff(
        asking(INSTANCE, old=state, old_inputs=INPUTS, inputs=inputs, resource_id="x", **more)
    )


@pytest.fixture
def provider(playback: Playback) -> Google:
    return configured(playback)


def test_diff_finds_nothing_when_only_the_spelling_differs(provider: Google) -> None:
    """Short names, links, scope aliases and the order of a set are the same thing: no second
    launch."""
    state = {"bootDisk": {**STATE["bootDisk"], "mode": "READ_WRITE"}}

    assert diff(provider, INPUTS, state=state).changes == {}


@pytest.mark.parametrize(
    ("path", "value", "replaces"),
    [
        ("scheduling.maxRunDuration.seconds", 7200, ["scheduling.maxRunDuration.seconds"]),
        ("scheduling.preemptible", False, ["scheduling.preemptible"]),
        ("scheduling.provisioningModel", "SPOT", ["scheduling.provisioningModel"]),
        ("zone", "us-east5-a", ["zone"]),
        ("labels", {"mayfly": "seed"}, []),
        ("machineType", "a3-highgpu-4g", []),
        ("metadata", {"a": "b"}, []),
        ("tags", ["a"], []),
        ("name", UNKNOWN, ["name"]),
    ],
)
def test_diff_replaces_the_vm_only_when_the_property_cannot_change(
    provider: Google, path: str, value: Any, replaces: list[str]
) -> None:
    """Replacing a live 8xH100 over a label would end somebody's session."""
    state = {"bootDisk": {**STATE["bootDisk"], "mode": "READ_WRITE"}}
    found = diff(provider, changed(path, value), state=state)

    assert found.replaces == replaces
    assert list(found.changes)
    assert found.delete_before_replace == (bool(replaces) and path != "name")


def test_diff_replaces_the_vm_when_its_image_family_ends_in_more_than_the_architecture(
    provider: Google,
) -> None:
    """The real provider does this to a running VM on a plain second `up`: mayfly must never rely
    on a family."""
    family = IMAGE.removesuffix("-v20261110")
    path = "bootDisk.initializeParams.image"
    inputs = changed(path, f"projects/images/global/images/family/{family}")
    state = {"bootDisk": {**STATE["bootDisk"], "mode": "READ_WRITE"}}

    assert diff(provider, inputs, state=state).replaces == [path]
    assert diff(provider, inputs, state=state, ignore=(path,)).changes == {}


@pytest.mark.parametrize(
    ("name", "given", "same"),
    [
        ("debian-12-bookworm-v20261105", "debian-cloud/debian-12", True),
        (
            "debian-12-bookworm-v20261105",
            "projects/debian-cloud/global/images/family/debian-12",
            True,
        ),
        ("debian-12-bookworm-v20261105", "debian-11", False),
        ("ubuntu-2404-noble-amd64-v1", "ubuntu-2404-noble-amd64", True),
        ("ubuntu-2404-noble-amd64-v1", "ubuntu-2404-noble", False),
        ("ubuntu-2404-noble-arm64-v1", "ubuntu-2404-noble-amd64", False),
        ("debian-12-bookworm-v20261105", "projects/other/global/images/family/debian-12", False),
    ],
)
def test_image_is_the_same_when_its_family_is_named(name: str, given: str, same: bool) -> None:
    """A diff here means a new VM; no diff where there should be one means an old driver."""
    full = f"https://www.googleapis.com/compute/v1/projects/debian-cloud/global/images/{name}"

    assert image(full, given) is same


def test_diff_creates_first_when_the_name_is_automatic(provider: Google) -> None:
    """Two names leave room for both; one name does not."""
    token = "gcp:compute/network:Network"
    inputs = {"__defaults": ["name"], "name": "net-1234567", "description": "b"}
    old = {"name": "net-1234567", "description": "a", "project": "proj"}
    request = asking(token, old=old, old_inputs=inputs, inputs=inputs, resource_id="x")
    explicit = asking(
        token, old=old, old_inputs=inputs, inputs={**inputs, "__defaults": []}, resource_id="x"
    )

    assert not provider.diff(request).delete_before_replace
    assert provider.diff(explicit).delete_before_replace


def test_diff_replaces_when_the_provider_gets_another_project(playback: Playback) -> None:
    """A resource belongs to its project; another default project means another resource."""
    provider = configured(playback, project="elsewhere")
    token = "gcp:compute/network:Network"
    inputs = {"__defaults": [], "name": "net"}
    old = {"name": "net", "project": "proj", "autoCreateSubnetworks": True}
    found = provider.diff(asking(token, old=old, old_inputs=inputs, inputs=inputs, resource_id="x"))

    assert found.replaces == ["project"]


def test_diff_grows_a_subnet_in_place_when_the_new_range_holds_the_old(provider: Google) -> None:
    """Replacing a subnet would take every VM in it along."""
    token = "gcp:compute/subnetwork:Subnetwork"
    old = {
        "name": "s",
        "project": "proj",
        "region": "r",
        "network": LINK,
        "ipCidrRange": "10.0.0.0/24",
    }
    inputs = {"__defaults": [], "name": "s", "region": "r", "network": "mayfly"}

    def replaces(cidr: str) -> list[str]:
        wanted = {**inputs, "ipCidrRange": cidr}
        request = asking(token, old=old, old_inputs=inputs, inputs=wanted, resource_id="x")
        return provider.diff(request).replaces

    assert replaces("10.0.0.0/20") == []
    assert replaces("10.1.0.0/24") == ["ipCidrRange"]


def test_diff_is_refused_when_an_ingress_rule_has_no_source(provider: Google) -> None:
    """Such a rule would be open to the world; the real provider stops at preview."""
    token = "gcp:compute/firewall:Firewall"
    inputs = {"network": "n", "direction": "INGRESS", "allows": [{"protocol": "tcp"}]}

    with pytest.raises(
        RefusedError, match="one of source_tags, source_ranges, or source_service_accounts"
    ):
        provider.create(asking(token, inputs=inputs, preview=True))


def test_diff_sees_new_content_when_an_asset_keeps_its_path(provider: Google) -> None:
    """The engine's hash tells; the path alone would leave yesterday's function running."""
    token = "gcp:storage/bucketObject:BucketObject"
    signature = {"4dabf18193072939515e22adb298388d": "c44067f5952c0a294b673a41bacd8c17"}
    inputs = {"__defaults": [], "name": "o", "bucket": "b"}
    old = {**inputs, "source": {**signature, "path": "a.zip", "hash": "1"}, "detectMd5hash": "abc"}
    new = {**inputs, "source": {**signature, "path": "a.zip", "hash": "2"}}
    same = {**inputs, "source": {**signature, "path": "a.zip", "hash": "1"}}

    def found(wanted: dict[str, Any]) -> list[str]:
        return provider.diff(
            asking(token, old=old, old_inputs=inputs, inputs=wanted, resource_id="x")
        ).replaces

    assert found(same) == []
    assert found(new) == ["source"]
