"""What a launch needs: quota, the way in, the weights and where they are."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mayfly import names, quota
from mayfly.cloud import Cloud
from mayfly.doctor.finding import Finding
from mayfly.doctor.kinds import kind
from mayfly.doctor.site import CannotLookError, Foundation, Site, region
from mayfly.machines import MACHINES, region_of
from mayfly.project import CHECKOUT


def look_foundation(site: Site, cloud: Cloud, base: Foundation) -> Foundation:
    """CannotLookError where its state was not to be read."""
    base.require_known()
    return base


def judge_foundation(site: Site, seen: Foundation) -> Iterator[Finding]:
    if not seen.stands:
        what = f"Stack {seen.stack} was not brought up in this project."
        yield kind("foundation-missing").finding(what, foundation=seen.stack)


def look_quota(site: Site, cloud: Cloud, base: Foundation) -> quota.Limits:
    if not site.machine:
        raise CannotLookError(f"no machine holds {site.profile.name}")
    return quota.read(cloud.quotas.infos(quota.SERVICE))


def judge_quota(site: Site, seen: quota.Limits) -> Iterator[Finding]:
    machine = MACHINES[site.machine]
    offered = quota.regions(machine)
    regions = tuple(r for r in offered if r in site.regions) or offered
    demand = quota.Demand(
        profile=site.profile.name,
        machine=machine,
        provisioning=site.provisioning,
        regions=regions,
    )
    checked = demand.check(seen)
    if any(not any(need.short for need in needs) for needs in checked.values()):
        return
    no = demand.refusal(checked)
    yield kind("quota-short").finding(no.what, command=no.remedy.removeprefix("Try: "))


@dataclass(frozen=True)
class Rule:
    """The firewall's rule for the tunnel, as Compute has it, or None; of a foundation that is."""

    foundation: Foundation
    rule: Mapping[str, Any] | None


def look_network(site: Site, cloud: Cloud, base: Foundation) -> Rule:
    path = f"projects/{site.project}/global/firewalls/{names.SSH_RULE}"
    return Rule(base, cloud.ask("GET", "compute", path) if base.stands else None)


def judge_network(site: Site, seen: Rule) -> Iterator[Finding]:
    if not seen.foundation.stands:
        return
    words = {"foundation": seen.foundation.stack}
    if seen.rule is None:
        yield kind("firewall-missing").finding(
            f"There is no firewall rule {names.SSH_RULE}.", **words
        )
    elif seen.rule.get("disabled"):
        yield kind("firewall-missing").finding(
            f"The rule {names.SSH_RULE} is switched off.", **words
        )


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What the bucket holds of a profile. bucket: None where there is none, "" without foundation.

    files, listed: name -> (size, crc32c), by the manifest (None: there is none) and by the bucket.
    """

    foundation: Foundation
    bucket: str | None = ""
    location: str = ""
    files: Mapping[str, tuple[int, str]] | None = None
    listed: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    engine: bool = True


def look_weights(site: Site, cloud: Cloud, base: Foundation) -> Weights:
    if not base.stands:
        return Weights(foundation=base)
    name = str(base.outputs.get("weights_bucket") or names.bucket(site.project, "weights"))
    bucket = cloud.storage.bucket(name)
    if bucket is None:
        return Weights(foundation=base, bucket=None)
    prefix = names.model_prefix(site.profile.model, site.profile.revision)
    blob = cloud.storage.get(name, f"{prefix}/{names.MANIFEST}")
    listed = {
        str(item["name"]).removeprefix(f"{prefix}/"): fingerprint(item)
        for item in cloud.storage.list(name, f"{prefix}/")
    }
    single = bucket.get("locationType", "region") == "region"
    return Weights(
        foundation=base,
        bucket=name,
        location=str(bucket.get("location", "")).lower() if single else "",
        files=None if blob is None else of_manifest(blob.data),
        listed=listed,
        engine=has_engine(site, cloud, name),
    )


def fingerprint(item: Mapping[str, Any]) -> tuple[int, str]:
    return int(item.get("size") or 0), str(item.get("crc32c") or "")


def of_manifest(data: bytes) -> dict[str, tuple[int, str]]:
    """{} for one that is none: then nothing in it is there."""
    try:
        return {str(file["name"]): fingerprint(file) for file in json.loads(data)["files"]}
    except (ValueError, KeyError, TypeError):
        return {}


def has_engine(site: Site, cloud: Cloud, bucket: str) -> bool:
    engine = site.profile.engine
    lock = CHECKOUT / "startup/locks" / engine.lock
    if not lock.is_file():
        return False
    prefix = names.engine_prefix(names.engine_id(engine.vllm, lock.read_bytes()))
    return cloud.storage.get(bucket, f"{prefix}/{names.MANIFEST}") is not None


def judge_weights(site: Site, seen: Weights) -> Iterator[Finding]:
    words = {"foundation": seen.foundation.stack, "profile": site.profile.name}
    if seen.bucket is None:
        what = f"There is no bucket of weights in project {site.project}."
        yield kind("weights-bucket-missing").finding(what, **words)
    elif seen.bucket:
        yield from judge_files(site, seen, words)
        yield from judge_place(site, seen)


def judge_files(site: Site, seen: Weights, words: dict[str, str]) -> Iterator[Finding]:
    model, where = site.profile.model, f"gs://{seen.bucket}"
    if seen.files is None and not seen.listed:
        yield kind("weights-missing").finding(f"{where} has nothing of {model}.", **words)
        return
    if seen.files is None:
        what = f"{where} has {len(seen.listed)} files of {model} and no manifest."
        yield kind("weights-unfinished").finding(what, **words)
        return
    wrong = [name for name, mark in seen.files.items() if seen.listed.get(name) != mark]
    if wrong or not seen.files:
        what = f"In {where} {wrong[0]} is not as seeded" if wrong else "The manifest names nothing"
        more = f", and {len(wrong) - 1} more are not." if len(wrong) > 1 else "."
        yield kind("weights-changed").finding(what + more, **words)
    elif not seen.engine:
        what = f"{where} has no vLLM {site.profile.engine.vllm} of this mayfly's lock."
        yield kind("engine-missing").finding(what, **words)


def judge_place(site: Site, seen: Weights) -> Iterator[Finding]:
    if seen.location and site.zone and region_of(site.zone) != seen.location:
        what = f"The weights are in {seen.location}, the next VM would be in {region(site)}."
        words = {"profile": site.profile.name, "region": seen.location}
        yield kind("weights-apart").finding(what, **words)
