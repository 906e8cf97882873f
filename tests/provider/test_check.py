"""What the provider refuses before anything is sent, in the real one's words."""

from __future__ import annotations

from typing import Any

import pytest

from local.provider.google import Google
from tests.provider.conftest import asking

INSTANCE = "gcp:compute/instance:Instance"
FIREWALL = "gcp:compute/firewall:Firewall"
BUCKET = "gcp:storage/bucket:Bucket"
ACCOUNT = "gcp:serviceaccount/account:Account"
SECRET = "gcp:secretmanager/secret:Secret"


def vm(**more: Any) -> dict[str, Any]:
    """The least that an Instance needs."""
    return {
        "name": "mayfly-dev",
        "machineType": "a3-highgpu-8g",
        "bootDisk": {"initializeParams": {"image": "projects/p/global/images/i"}},
        "networkInterfaces": [{"network": "default"}],
        **more,
    }


@pytest.mark.parametrize(
    ("token", "inputs", "text"),
    [
        (INSTANCE, vm(zonee="x"), "Invalid or unknown key. Examine values at 'thing.zonee'."),
        (
            INSTANCE,
            vm(scheduling={"maxRunDuration": {"secs": 3, "seconds": 3}}),
            "Invalid or unknown key. Examine values at 'thing.scheduling.maxRunDuration.secs'.",
        ),
        (
            INSTANCE,
            {k: v for k, v in vm().items() if k != "machineType"},
            'Missing required argument. The argument "machine_type" is required, but no definition '
            "was found.. Examine values at 'thing.machineType'.",
        ),
        (
            INSTANCE,
            vm(scheduling={"maxRunDuration": {"nanos": 1}}),
            'The argument "seconds" is required',
        ),
        (
            INSTANCE,
            vm(name="Mayfly"),
            'doesn\'t match regexp "^(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)$"',
        ),
        (
            INSTANCE,
            vm(bootDisk={"mode": "RW"}),
            'expected mode to be one of ["READ_WRITE" "READ_ONLY"], got RW. '
            "Examine values at 'thing.bootDisk.mode'.",
        ),
        (INSTANCE, vm(machineType=["a"]), "expected type 'string', got 'list'"),
        (INSTANCE, vm(canIpForward="maybe"), "expected type 'bool', got 'string'"),
        (INSTANCE, vm(scheduling={}), "one of its arguments must be specified"),
        (
            FIREWALL,
            {"network": "n", "allows": [{"protocol": "tcp"}], "denies": [{"protocol": "udp"}]},
            "only one of `allows,denies` can be specified, but `allows,denies` were specified",
        ),
        (FIREWALL, {"network": "n"}, "one of `allows,denies` must be specified"),
        (
            FIREWALL,
            {
                "network": "n",
                "allows": [{"protocol": "tcp"}],
                "sourceTags": ["a"],
                "sourceServiceAccounts": ["b"],
            },
            (
                'Conflicting configuration arguments. "source_service_accounts": '
                "conflicts with source_tags"
            ),
        ),
        (BUCKET, {"location": "us", "labels": {"Mayfly": "x"}}, '"Mayfly" is an invalid label key'),
        (ACCOUNT, {"accountId": "abc"}, "doesn't match regexp \"^(?:[a-z](?:[-a-z0-9]{4,28}"),
        (SECRET, {"secretId": "s", "replication": {}}, "must be specified"),
        (
            "gcp:compute/subnetwork:Subnetwork",
            {"network": "n", "ipCidrRange": "10.0.0.1/24"},
            "valid network Value",
        ),
        (
            "gcp:projects/iAMMember:IAMMember",
            {"role": "roles/viewer", "member": "dev@example.com"},
            'The argument "project" is required',
        ),
        (
            "gcp:storage/bucketIAMMember:BucketIAMMember",
            {"bucket": "b", "role": "roles/viewer", "member": "dev@example.com"},
            "invalid value for member (dev@example.com)",
        ),
        (
            "gcp:kms/cryptoKey:CryptoKey",
            {"keyRing": "r", "rotationPeriod": "60s"},
            "rotation_period must be greater than 86400s",
        ),
    ],
)
def test_check_refuses_when_the_real_provider_would(
    provider: Google, token: str, inputs: dict[str, Any], text: str
) -> None:
    """A typo that passes here would cost a failed launch, or a VM without its deadline, at
    Google."""
    checked = provider.check(asking(token, inputs=inputs))

    assert any(text in failure for failure in checked.failures), checked.failures
    assert checked.inputs == {}


def test_check_reports_every_problem_when_there_are_several(provider: Google) -> None:
    """One message with all of it spares a round trip for each."""
    checked = provider.check(asking(INSTANCE, inputs=vm(zonee="x", name="Bad_Name")))

    assert len(checked.failures) == 2


def test_check_fills_in_defaults_when_inputs_leave_them_out(provider: Google) -> None:
    """State must hold the defaults and their names, or the next diff sees changes that nobody
    made."""
    checked = provider.check(asking(INSTANCE, inputs=vm()))

    assert not checked.failures
    assert checked.inputs["__defaults"] == ["eraseWindowsVssSignature"]
    assert checked.inputs["bootDisk"]["mode"] == "READ_WRITE"
    assert set(checked.inputs["bootDisk"]["__defaults"]) == {"autoDelete", "mode"}
    assert "deletionProtection" not in checked.inputs  # a false default stays out of the inputs


def test_check_makes_a_name_when_none_is_given(provider: Google) -> None:
    """An automatic name must be stable from one update to the next, else everything is replaced."""
    token = "gcp:compute/network:Network"
    first = provider.check(asking(token, "Net", inputs={}, seed=b"seed"))
    again = provider.check(asking(token, "Net", inputs={}, old_inputs=first.inputs, seed=b"other"))

    name = first.inputs["name"]
    assert name.startswith("net-")
    assert len(name) == len("net-") + 7
    assert "name" in first.inputs["__defaults"]
    assert again.inputs["name"] == name


def test_check_lets_unknown_values_pass_when_they_come_from_another_resource(
    provider: Google,
) -> None:
    """At preview an output of a new resource is unknown; that is no mistake."""
    from local.provider.values import UNKNOWN

    checked = provider.check(
        asking(FIREWALL, inputs={"network": UNKNOWN, "allows": [{"protocol": UNKNOWN}]})
    )

    assert not checked.failures
    assert checked.inputs["network"] is UNKNOWN


def test_check_converts_numbers_when_they_come_as_text(provider: Google) -> None:
    """Configuration values are text; the bridge turns them into the property's type."""
    inputs = vm(scheduling={"maxRunDuration": {"seconds": "3600"}}, metadata={"n": 5, "b": True})
    checked = provider.check(asking(INSTANCE, inputs=inputs))

    assert checked.inputs["scheduling"]["maxRunDuration"]["seconds"] == 3600
    assert checked.inputs["metadata"] == {"n": "5", "b": "true"}


def test_check_refuses_a_type_when_it_has_no_table(provider: Google) -> None:
    """A type that the stand-in does not know must not look as if it worked."""
    from local.provider.messages import RefusedError

    with pytest.raises(RefusedError, match="unrecognized resource type"):
        provider.check(asking("gcp:pubsub/topic:Topic", inputs={}))
