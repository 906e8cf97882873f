"""The stand-in's tables say what the probed facts say of the real provider."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from local.provider import schema
from local.provider.schema import Field
from tests.conftest import SHARED

FACTS: dict[str, Any] = yaml.safe_load((SHARED / "facts/gcp-resources.yaml").read_text())
OURS = sorted(yaml.safe_load(path.read_text())["type"] for path in schema.TYPES.glob("*.yaml"))
NEEDED = (
    "compute/instance:Instance", "compute/network:Network", "compute/subnetwork:Subnetwork",
    "compute/firewall:Firewall", "compute/router:Router", "compute/routerNat:RouterNat",
    "compute/address:Address", "compute/disk:Disk", "storage/bucket:Bucket",
    "storage/bucketObject:BucketObject", "storage/bucketIAMMember:BucketIAMMember",
    "serviceaccount/account:Account", "serviceaccount/iAMMember:IAMMember",
    "projects/service:Service", "projects/iAMMember:IAMMember",
    "projects/iAMCustomRole:IAMCustomRole", "secretmanager/secret:Secret",
    "secretmanager/secretVersion:SecretVersion", "secretmanager/secretIamMember:SecretIamMember",
    "cloudfunctionsv2/function:Function", "cloudrunv2/serviceIamMember:ServiceIamMember",
    "cloudscheduler/job:Job", "kms/keyRing:KeyRing", "kms/cryptoKey:CryptoKey",
    "kms/cryptoKeyIAMMember:CryptoKeyIAMMember", "cloudquota/sQuotaPreference:SQuotaPreference",
    "billing/budget:Budget",
)  # fmt: skip


def facts_of(token: str) -> dict[str, dict[str, Any]]:
    known = FACTS["types"][token]
    shared = FACTS["shared"][known["common"]]["inputs"] if "common" in known else {}
    return {**shared, **known["inputs"]}


def flat(fields: dict[str, Field], prefix: str = "") -> dict[str, Field]:
    found = {}
    for name, item in fields.items():
        if not item.output:
            found[prefix + name] = item
            found |= flat(item.children, f"{prefix}{name}.")
    return found


def ours_of(token: str) -> dict[str, Field]:
    table = schema.load(token)
    assert table is not None
    return flat(table.fields)


def test_tables_cover_every_type_that_mayfly_uses() -> None:
    """A type without a table cannot be made locally at all."""
    assert set(OURS) == {f"gcp:{name}" for name in NEEDED}


@pytest.mark.parametrize("token", OURS)
def test_table_knows_the_same_properties(token: str) -> None:
    """One too few refuses a good program; one too many lets a typo pass."""
    assert set(ours_of(token)) == set(facts_of(token))


@pytest.mark.parametrize("token", OURS)
def test_table_requires_and_replaces_as_the_real_provider(token: str) -> None:
    """A missing "required" fails at Google only; a missing "replace" hides the end of a live VM."""
    facts, ours = facts_of(token), ours_of(token)
    needs = {"R": "required", "A": "auto"}
    replaces = {1: True, "cond": "maybe"}

    for path, row in facts.items():
        item = ours[path]
        if row.get("r") in needs or item.need in needs.values():
            assert item.need == needs.get(row.get("r", "")), path
        assert item.replace == replaces.get(row.get("new", 0), False), path
        assert list(item.one_of) == row.get("in", []), path
        assert item.default == row.get("d"), path
        assert item.secret == bool(row.get("sec")), path
        assert bool(item.check) == ("ok" in row), path
        assert bool(item.same) == ("sup" in row), path


@pytest.mark.parametrize("token", OURS)
def test_table_groups_properties_as_the_real_provider(token: str) -> None:
    """What goes together, what does not, and what must not be empty."""
    table = schema.load(token)
    assert table is not None
    groups = FACTS["types"][token].get("groups", {})

    assert table.header.get("exactly_one", []) == groups.get("exactlyOne", [])
    assert table.header.get("conflicts", []) == groups.get("conflicts", [])
    assert table.header.get("requires", {}) == groups.get("requires", {})
    assert set(table.header.get("not_empty", {})) == set(groups.get("nonEmpty", {}))


def test_facts_would_be_missed_when_a_table_differs() -> None:
    """The gate's twin: a property with another need is seen."""
    item = ours_of("gcp:compute/instance:Instance")["machineType"]

    assert item.need == "required"
    with pytest.raises(AssertionError):
        assert Field("machineType").need == item.need
