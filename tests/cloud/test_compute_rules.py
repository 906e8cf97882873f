"""Every rule of Compute that the fake keeps, each with a bad case and Google's words for it."""

import pytest

from local.rest.compute.catalogue import MACHINE_TYPES, ZONES, offered
from local.rest.compute.images_data import IMAGES, find
from tests.cloud.conftest import IMAGE, ZONE, message, spot_vm

SPOT = spot_vm()["scheduling"]
DISK = spot_vm()["disks"][0]
E2 = "zones/us-central1-a/machineTypes/e2-standard-4"


def scheduling(**changes):
    """SPOT's block with changes; a value of None leaves the field out."""
    return {k: v for k, v in {**SPOT, **changes}.items() if v is not None}


def boot(**params):
    return [{**DISK, "initializeParams": {**DISK["initializeParams"], **params}}]


REFUSED = {
    "machine type unknown": (
        {"machineType": "zones/us-central1-a/machineTypes/a9-mega"},
        "Machine type with name 'a9-mega' does not exist in zone 'us-central1-a'.",
    ),
    "machine type not in this zone": (
        {"machineType": "zones/us-central1-a/machineTypes/a3-ultragpu-8g"},
        "Machine type with name 'a3-ultragpu-8g' does not exist in zone 'us-central1-a'.",
    ),
    "machine type of another zone": (
        {"machineType": "zones/us-east5-a/machineTypes/a3-highgpu-8g"},
        "Machine type must be in the same zone",
    ),
    "machine type missing": (
        {"machineType": None},
        "Required field 'resource.machineType' not specified",
    ),
    "spot that restarts": (
        {"scheduling": scheduling(automaticRestart=True)},
        "Scheduling must have preemptible be false when AutomaticRestart is true.",
    ),
    "spot that migrates": (
        {"scheduling": scheduling(onHostMaintenance="MIGRATE")},
        "Scheduling must have preemptible be false when OnHostMaintenance isn't TERMINATE.",
    ),
    "spot that is not preemptible": (
        {"scheduling": scheduling(preemptible=False)},
        "Scheduling must have preemptible be true when the provisioning model is SPOT.",
    ),
    "gpu that migrates": (
        {
            "scheduling": {
                "provisioningModel": "STANDARD",
                "automaticRestart": True,
                "onHostMaintenance": "MIGRATE",
            }
        },
        "Instances with guest accelerators do not support live migration.",
    ),
    "e2 that terminates": (
        {"machineType": E2, "scheduling": {"onHostMaintenance": "TERMINATE"}},
        "e2 instances do not support onHostMaintenance=TERMINATE unless they are preemptible.",
    ),
    "termination action on plain standard": (
        {
            "scheduling": {
                "provisioningModel": "STANDARD",
                "onHostMaintenance": "TERMINATE",
                "instanceTerminationAction": "DELETE",
            }
        },
        "You cannot specify a termination action for a VM instance that has the standard",
    ),
    "time limit without an action": (
        {"scheduling": scheduling(instanceTerminationAction=None)},
        "instance termination action must be specified",
    ),
    "29 seconds": (
        {"scheduling": scheduling(maxRunDuration={"seconds": 29})},
        "between 30 seconds and 120 days",
    ),
    "121 days": (
        {"scheduling": scheduling(maxRunDuration={"seconds": 121 * 86400})},
        "between 30 seconds and 120 days",
    ),
    "flex start for 8 days": (
        {
            "scheduling": {
                "provisioningModel": "FLEX_START",
                "onHostMaintenance": "TERMINATE",
                "instanceTerminationAction": "DELETE",
                "maxRunDuration": {"seconds": 8 * 86400},
            }
        },
        "between 30 seconds and 7 days",
    ),
    "flex start that stops": (
        {
            "scheduling": {
                "provisioningModel": "FLEX_START",
                "onHostMaintenance": "TERMINATE",
                "instanceTerminationAction": "STOP",
                "maxRunDuration": {"seconds": 3600},
            }
        },
        "FLEX_START needs a maximum run duration and the termination action DELETE.",
    ),
    "flex start on a cpu machine": (
        {
            "machineType": "zones/us-central1-a/machineTypes/n2-standard-8",
            "scheduling": {
                "provisioningModel": "FLEX_START",
                "onHostMaintenance": "TERMINATE",
                "instanceTerminationAction": "DELETE",
                "maxRunDuration": {"seconds": 3600},
            },
        },
        "does not support the FLEX_START provisioning model",
    ),
    "legacy preemptible with a time limit": (
        {"scheduling": scheduling(provisioningModel=None)},
        "A legacy preemptible VM cannot have a time limit.",
    ),
    "two time limits": (
        {"scheduling": scheduling(terminationTime="2027-01-01T00:00:00Z")},
        "Only one of maxRunDuration and terminationTime can be set.",
    ),
    "time that is none": (
        {"scheduling": scheduling(maxRunDuration=None, terminationTime="soon")},
        "Must be a valid RFC 3339 timestamp.",
    ),
    "small a3 on demand": (
        {
            "machineType": "zones/us-central1-a/machineTypes/a3-highgpu-1g",
            "scheduling": {"onHostMaintenance": "TERMINATE"},
        },
        "a3-highgpu-1g is only available with the SPOT, FLEX_START",
    ),
    "metadata value over 256 KiB": (
        {"metadata": {"items": [{"key": "big", "value": "x" * (256 * 1024 + 1)}]}},
        "Metadata value for key 'big' is too large",
    ),
    "metadata over 512 KiB": (
        {"metadata": {"items": [{"key": k, "value": "x" * 200_000} for k in ("a", "b", "c")]}},
        "Metadata is too large",
    ),
    "metadata key twice": (
        {"metadata": {"items": [{"key": "a", "value": "1"}, {"key": "a", "value": "2"}]}},
        "Duplicate metadata key 'a'.",
    ),
    "metadata key with a space": (
        {"metadata": {"items": [{"key": "a b", "value": "1"}]}},
        "Must be a match of regex '[a-zA-Z0-9-_]{1,128}'",
    ),
    "metadata key missing": (
        {"metadata": {"items": [{"value": "1"}]}},
        "Required field 'resource.metadata.items[0].key' not specified",
    ),
    "label with capitals": (
        {"labels": {"mayfly": "Session"}},
        "Label value 'Session' violates format constraints.",
    ),
    "label of 64 letters": (
        {"labels": {"mayfly": "a" * 64}},
        "violates format constraints. The value can only contain",
    ),
    "label key that begins with a digit": (
        {"labels": {"1a": "x"}},
        "Label key '1a' violates format constraints.",
    ),
    "65 labels": ({"labels": {f"k{i}": "" for i in range(65)}}, "Too many labels"),
    "tag twice": ({"tags": {"items": ["a", "a"]}}, "Tags must be unique."),
    "65 tags": ({"tags": {"items": [f"t{i}" for i in range(65)]}}, "at most 64 tags"),
    "network unknown": (
        {"networkInterfaces": [{"network": "global/networks/none"}]},
        "The resource 'projects/proj/global/networks/none' was not found",
    ),
    "subnet of another region": (
        {"networkInterfaces": [{"subnetwork": "regions/us-east5/subnetworks/default"}]},
        "Subnetwork must be in region 'us-central1'",
    ),
    "subnet unknown": (
        {"networkInterfaces": [{"subnetwork": "regions/us-central1/subnetworks/none"}]},
        "The referenced subnetwork resource cannot be found.",
    ),
    "no interface": ({"networkInterfaces": []}, "At least one network interface is required."),
    "address that is not ours": (
        {
            "networkInterfaces": [
                {"network": "global/networks/default", "accessConfigs": [{"natIP": "1.2.3.4"}]}
            ]
        },
        "The specified external IP address was not found",
    ),
    "image unknown": (
        {"disks": boot(sourceImage="projects/debian-cloud/global/images/debian-1")},
        "The referenced image resource cannot be found.",
    ),
    "image family unknown": (
        {"disks": boot(sourceImage="projects/debian-cloud/global/images/family/debian-1")},
        "The referenced image resource cannot be found.",
    ),
    "disk smaller than its image": (
        {"disks": boot(diskSizeGb="10")},
        "Requested disk size cannot be smaller than the image size (20 GB)",
    ),
    "disk type unknown": (
        {"disks": boot(diskType="zones/us-central1-a/diskTypes/floppy")},
        "The referenced diskType resource cannot be found.",
    ),
    "pd-standard on an a3": (
        {"disks": boot(diskType="zones/us-central1-a/diskTypes/pd-standard")},
        "[pd-standard] features are not compatible for creating instance.",
    ),
    "no boot disk": ({"disks": [{"type": "SCRATCH"}]}, "Exactly one boot disk is required"),
    "boot disk of nothing": (
        {"disks": [{"boot": True, "autoDelete": True}]},
        "Boot disk must have a source image or a source.",
    ),
    "gpu that the machine does not have": (
        {
            "guestAccelerators": [
                {
                    "acceleratorType": "zones/us-central1-a/acceleratorTypes/nvidia-l4",
                    "acceleratorCount": 1,
                }
            ]
        },
        "The accelerator is not compatible with machine type 'a3-highgpu-8g'.",
    ),
    "two service accounts": (
        {"serviceAccounts": [{"email": "a@b", "scopes": ["x"]}, {"email": "c@d", "scopes": ["x"]}]},
        "An instance can have one service account at most.",
    ),
    "service account without scopes": (
        {"serviceAccounts": [{"email": "a@b"}]},
        "At least one scope must be specified.",
    ),
}


@pytest.mark.parametrize(("changes", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_insert_is_refused_and_leaves_nothing(api, changes, text):
    """What Google refuses after minutes on a user's bill must be refused here in a second."""
    status, answer = api.insert(**changes)

    assert status in (400, 404)
    assert text in message(answer)
    assert "items" not in api.get(f"{ZONE}/instances")[1]
    assert "items" not in api.get(f"{ZONE}/disks")[1]


ACCEPTED = {
    "30 seconds": {"scheduling": scheduling(maxRunDuration={"seconds": 30})},
    "120 days": {"scheduling": scheduling(maxRunDuration={"seconds": 120 * 86400})},
    "spot alone": {"scheduling": {"provisioningModel": "SPOT"}},
    "flex start for 7 days": {
        "scheduling": {
            "provisioningModel": "FLEX_START",
            "onHostMaintenance": "TERMINATE",
            "instanceTerminationAction": "DELETE",
            "maxRunDuration": {"seconds": 7 * 86400},
        }
    },
    "standard with a time limit": {
        "scheduling": {
            "provisioningModel": "STANDARD",
            "automaticRestart": True,
            "onHostMaintenance": "TERMINATE",
            "instanceTerminationAction": "DELETE",
            "maxRunDuration": {"seconds": 3600},
        }
    },
    "metadata value of 256 KiB": {
        "metadata": {"items": [{"key": "big", "value": "x" * 256 * 1024}]}
    },
    "empty and international labels": {"labels": {"mayfly": "", "größe": "klein"}},
    "image family": {
        "disks": boot(sourceImage="projects/debian-cloud/global/images/family/debian-12")
    },
    "full links": {
        "machineType": "https://www.googleapis.com/compute/beta/projects/proj/zones/us-central1-a/"
        "machineTypes/a3-highgpu-8g",
        "disks": boot(sourceImage="https://www.googleapis.com/compute/v1/" + IMAGE),
    },
    "project by its number": {
        "networkInterfaces": [{"network": "projects/123456789012/global/networks/default"}]
    },
}


@pytest.mark.parametrize("changes", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_insert_is_accepted_at_the_edge_of_a_rule(api, changes):
    """A stand-in that is too strict is wrong as well."""
    status, answer = api.insert(**changes)

    assert status == 200, answer
    assert "error" not in answer


def test_spot_stops_when_no_action_is_given(api):
    """Google fills it in, and clients that do not expect it see a difference for ever."""
    api.insert(scheduling={"provisioningModel": "SPOT"})

    _, vm = api.get(f"{ZONE}/instances/mayfly-one")

    assert vm["scheduling"]["instanceTerminationAction"] == "STOP"
    assert (
        vm["scheduling"]["preemptible"],
        vm["scheduling"]["automaticRestart"],
    ) == (True, False)


def test_secure_boot_is_kept_as_given_and_the_rest_is_filled_in(api):
    """The driver upgrade depends on Secure Boot being off."""
    api.insert(shieldedInstanceConfig={"enableSecureBoot": True})

    _, vm = api.get(f"{ZONE}/instances/mayfly-one")

    expected = {"enableSecureBoot": True, "enableVtpm": True, "enableIntegrityMonitoring": True}
    assert expected == vm["shieldedInstanceConfig"]


def test_insert_is_409_when_the_name_is_taken(api):
    """A retry after a lost answer ends here."""
    api.insert()

    status, answer = api.insert()

    assert status == 409
    path = "projects/proj/zones/us-central1-a/instances/mayfly-one"
    assert f"The resource '{path}' already exists" == message(answer)


def test_insert_makes_one_vm_when_the_request_id_repeats(api):
    """A safe retry is one that the server knows again."""
    path = f"{ZONE}/instances?requestId=7d9f0b6e-1111-4222-8333-444455556666"
    _, first = api.post(path, spot_vm())
    status, second = api.post(path, spot_vm())

    assert status == 200
    assert first["name"] == second["name"]


def test_insert_fails_in_its_operation_when_the_service_account_is_missing(api):
    """As at Google: 200 first, then the error; and no VM is left."""
    api.world.service_account_exists = lambda email: False
    account = {"email": "gone@proj.iam.gserviceaccount.com", "scopes": ["x"]}

    _, operation = api.insert(serviceAccounts=[account])

    error = operation["error"]["errors"][0]
    assert error["code"] == "EXTERNAL_RESOURCE_NOT_FOUND"
    assert "gone@proj.iam.gserviceaccount.com' of type 'serviceAccount' was not" in error["message"]
    assert api.get(f"{ZONE}/instances/mayfly-one")[0] == 404
    assert api.get(f"{ZONE}/disks/mayfly-one")[0] == 404


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/compute/v1/projects/other/zones", 404, "Failed to find project other"),
        (
            "/compute/v1/projects/proj/zones/mars-a/instances",
            400,
            "Invalid value for field 'zone': 'mars-a'. Unknown zone.",
        ),
        ("/compute/v1/projects/proj/regions/mars", 400, "Unknown region."),
        (f"{ZONE}/instances/Bad_Name", 400, "Must be a match of regex"),
        (f"{ZONE}/machineTypes/a3-ultragpu-8g", 404, "was not found"),
        (f"{ZONE}/operations/operation-none", 404, "was not found"),
    ],
)
def test_places_are_refused_when_they_do_not_exist(api, path, status, text):
    """A typo in a zone must not read as "no instances"."""
    got, answer = api.get(path)

    assert status == got
    assert text in message(answer)


def test_machine_type_tells_its_gpus(api):
    """The planner reads cores, memory and accelerators here."""
    _, kind = api.get(f"{ZONE}/machineTypes/a3-highgpu-8g")

    assert (kind["guestCpus"], kind["memoryMb"]) == (208, 1872 * 1024)
    gpus = {"guestAcceleratorType": "nvidia-h100-80gb", "guestAcceleratorCount": 8}
    assert [gpus] == kind["accelerators"]


def test_region_quotas_say_nothing_of_h100(api):
    """Like Google: a tool that trusts this list would miss the one limit that matters."""
    _, region = api.get("/compute/v1/projects/proj/regions/us-central1")

    metrics = {q["metric"] for q in region["quotas"]}
    assert "PREEMPTIBLE_NVIDIA_A100_80GB_GPUS" in metrics
    assert not [m for m in metrics if "H100" in m or "B200" in m]


def test_catalogue_offers_machine_types_only_in_zones_that_exist():
    """A zone that is spelt wrong would make a type unavailable everywhere."""
    for kind in MACHINE_TYPES.values():
        assert not set(kind.zones or ()) - set(ZONES), kind.name
    assert offered("a3-highgpu-8g", "us-central1-a")
    assert offered("a3-highgpu-8g", "us-west2-a") is None


@pytest.mark.parametrize("driver", ["570", "580"])
@pytest.mark.parametrize("release", ["2204", "2404"])
def test_image_family_answers_its_newest_image(api, release, driver):
    """The launch resolves the family once and pins what it finds."""
    family = f"ubuntu-accelerator-{release}-amd64-with-nvidia-{driver}"
    base = "/compute/beta/projects/ubuntu-os-accelerator-images/global/images"

    _, image = api.get(f"{base}/family/{family}")
    status, same = api.get(f"{base}/{image['name']}")

    assert f"{family}-v20261110" == image["name"]
    assert (200, image) == (status, same)


def test_image_is_404_when_a_family_is_asked_for_by_name(api):
    """The provider asks for the image first, then for the family."""
    base = "/compute/beta/projects/debian-cloud/global/images"

    assert api.get(f"{base}/debian-12")[0] == 404
    assert api.get(f"{base}/family/debian-99")[0] == 404
    assert find(f"projects/debian-cloud/global/images/{IMAGES[0].name}") is None
