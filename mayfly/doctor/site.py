"""What the doctor looks at: a checkout, a project, and the launch that is meant."""

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mayfly import names
from mayfly.cloud import Cloud, CloudError
from mayfly.config import DEFAULT_PROFILE, DEFAULT_REGION, SHIPPED_SESSION
from mayfly.errors import FailedError
from mayfly.machines import MACHINES, region_of
from mayfly.pricing import utc_today
from mayfly.profile import Profile, load
from mayfly.project import Project
from mayfly.setup.look import or_off

STACK_TYPE = "pulumi:pulumi:Stack"


class CannotLookError(FailedError):
    """The question stays open; the message says why."""


@dataclass(frozen=True)
class Foundation:
    """The foundation's stack as its state has it. outputs: {} where it was never brought up.

    unknown: why the state cannot be read, or "".
    """

    stack: str
    outputs: Mapping[str, Any]
    unknown: str = ""

    @property
    def stands(self) -> bool:
        """CannotLookError where nobody can tell."""
        self.require_known()
        return bool(self.outputs)

    def require_known(self) -> None:
        if self.unknown:
            raise CannotLookError(self.unknown)

    def region(self, otherwise: str) -> str:
        """Where its buckets and its reaper are."""
        regions = self.outputs.get("regions")
        return str(regions[0]) if isinstance(regions, list) and regions else otherwise


@dataclass(frozen=True, kw_only=True)
class Site:
    """machine, zone, provisioning: of the launch that is meant; machine "" where there is none.

    bucket: of the state. regions: that the foundation's file names. key: seals the state; or "".
    """

    checkout: Project
    project: str
    bucket: str
    key: str
    profile: Profile
    machine: str
    zone: str
    provisioning: str
    regions: tuple[str, ...]
    today: datetime.date

    @property
    def foundation_stack(self) -> str:
        written = self.checkout.config(SHIPPED_SESSION).get("mayfly:foundationStack")
        return str(written or names.FOUNDATION)


def survey(checkout: Project, profile: str) -> Site:
    """What the checkout's files say. WrongInputError for a profile or project that is none."""
    project = checkout.google_project()
    session, base = checkout.config(SHIPPED_SESSION), checkout.config(names.FOUNDATION)
    wanted = profile or str(session.get("mayfly:profile") or DEFAULT_PROFILE)
    loaded = load(wanted)
    configured = str(session.get("mayfly:machine") or "")
    machine = configured if configured in loaded.machines else loaded.default_machine
    zones = MACHINES[machine].zones if machine else ()
    zone = str(session.get("mayfly:zone") or "")
    regions = base.get("mayfly:regions")
    return Site(
        checkout=checkout,
        project=project,
        bucket=checkout.state_bucket(project),
        key=str(base.get("mayfly:stateKey") or ""),
        profile=loaded,
        machine=machine,
        zone=zone if zone in zones else next(iter(zones), ""),
        provisioning=str(session.get("mayfly:provisioning") or "spot"),
        regions=tuple(map(str, regions)) if isinstance(regions, list) else (),
        today=utc_today(),
    )


def foundation(site: Site, cloud: Cloud) -> Foundation:
    """By its state in the bucket, which needs no pulumi. Where an API is off it cannot stand."""
    try:
        nothing: list[dict[str, Any]] = []
        resources = or_off(lambda: state_of(cloud, site.bucket, site.foundation_stack), nothing)
    except CloudError as error:
        why = f"the state in gs://{site.bucket} cannot be read: {error.message}"
        return Foundation(site.foundation_stack, {}, why)
    for resource in resources:
        if resource.get("type") == STACK_TYPE:
            return Foundation(site.foundation_stack, resource.get("outputs") or {})
    return Foundation(site.foundation_stack, {})


def state_of(cloud: Cloud, bucket: str, stack: str) -> list[dict[str, Any]]:
    """The resources in a stack's state; [] where there is none, or nothing that can be read."""
    blob = cloud.storage.get(bucket, names.stack_state(stack))
    try:
        latest = json.loads(blob.data)["checkpoint"]["latest"] if blob else {}
        return [r for r in latest.get("resources") or [] if isinstance(r, dict)]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def region(site: Site) -> str:
    """Of the launch; else the foundation's first."""
    return region_of(site.zone) if site.zone else next(iter(site.regions), DEFAULT_REGION)
