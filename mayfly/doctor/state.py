"""The state bucket, the reaper that reads it, and locks that were left in it."""

import getpass
import os
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mayfly import locks, names
from mayfly.cloud import Cloud
from mayfly.config import DEFAULT_REGION
from mayfly.doctor.finding import Finding
from mayfly.doctor.kinds import kind
from mayfly.doctor.site import Foundation, Site
from mayfly.locks import Lock
from mayfly.setup import releases
from mayfly.setup.steps import bucket_changes

LOCKS = names.stack_locks("").rstrip("/") + "/"
USER = "roles/storage.objectUser"
DECRYPTER = "roles/cloudkms.cryptoKeyDecrypter"


@dataclass(frozen=True)
class Bucket:
    """bucket: as Google describes it; None where there is none. engine: the reaper's is whole."""

    bucket: Mapping[str, Any] | None
    engine: bool = True


def look_state(site: Site, cloud: Cloud, base: Foundation) -> Bucket:
    found = cloud.storage.bucket(site.bucket)
    return Bucket(found, found is not None and releases.complete(cloud, site.bucket))


def judge_state(site: Site, seen: Bucket) -> Iterator[Finding]:
    where = f"gs://{site.bucket}"
    if seen.bucket is None:
        yield kind("state-bucket-missing").finding(f"There is no {where}.")
        return
    lacks = bucket_changes(dict(seen.bucket))
    if lacks:
        yield kind("state-bucket-loose").finding(f"{where} lacks: {', '.join(lacks)}.")
    if not seen.engine:
        what = f"{where} does not hold the engine and plugins of this mayfly whole."
        yield kind("reaper-engine").finding(what)


@dataclass(frozen=True, kw_only=True)
class Reaper:
    """roles, key_roles: what its account has on the state bucket and on the state's key.

    job: Cloud Scheduler's, or None. key_roles: None where no key seals the state.
    """

    foundation: Foundation
    roles: frozenset[str] = frozenset()
    key_roles: frozenset[str] | None = None
    job: Mapping[str, Any] | None = None


def look_reaper(site: Site, cloud: Cloud, base: Foundation) -> Reaper:
    if not base.stands:
        return Reaper(foundation=base)
    account = f"{names.REAPER}@{site.project}.iam.gserviceaccount.com"
    member = f"serviceAccount:{base.outputs.get('reaper_email') or account}"
    bucket = f"b/{site.bucket}/iam?optionsRequestedPolicyVersion=3"
    key = f"{site.key}:getIamPolicy?options.requestedPolicyVersion=3"
    job = f"projects/{site.project}/locations/{home(site, base)}/jobs/{names.REAPER}"
    return Reaper(
        foundation=base,
        roles=roles(cloud.ask("GET", "storage", bucket), member),
        key_roles=roles(cloud.ask("GET", "kms", key), member) if site.key else None,
        job=cloud.ask("GET", "scheduler", job),
    )


def home(site: Site, base: Foundation) -> str:
    return base.region(next(iter(site.regions), DEFAULT_REGION))


def roles(policy: Mapping[str, Any] | None, member: str) -> frozenset[str]:
    """What a policy gives a member, under whatever condition."""
    bindings = (policy or {}).get("bindings") or []
    return frozenset(str(b.get("role")) for b in bindings if member in (b.get("members") or ()))


def judge_reaper(site: Site, seen: Reaper) -> Iterator[Finding]:
    if not seen.foundation.stands:
        return
    region = home(site, seen.foundation)
    words = {"foundation": seen.foundation.stack, "region": region, "project": site.project}
    if USER not in seen.roles:
        what = f"The reaper's account lacks {USER} on gs://{site.bucket}."
        yield kind("reaper-blind").finding(what, **words)
    if seen.key_roles is not None and DECRYPTER not in seen.key_roles:
        what = f"The reaper's account lacks {DECRYPTER} on {site.key}."
        yield kind("reaper-no-key").finding(what, **words)
    job = seen.job
    if job is None:
        what = f"Cloud Scheduler has no job {names.REAPER} in {region}."
        yield kind("reaper-missing").finding(what, **words)
    elif job.get("state") != "ENABLED":
        yield kind("reaper-paused").finding(
            f"The job {names.REAPER} is {job.get('state')}.", **words
        )
    elif (job.get("status") or {}).get("code"):
        what = f"The last run of {names.REAPER} ended with status {job['status']['code']}."
        yield kind("reaper-failing").finding(what, **words)


@dataclass(frozen=True)
class Held:
    """A lock, and whether its process runs: None where only another machine could tell."""

    lock: Lock
    alive: bool | None


def look_locks(site: Site, cloud: Cloud, base: Foundation) -> list[Held]:
    if cloud.storage.bucket(site.bucket) is None:
        return []
    return [Held(lock, is_alive(lock)) for lock in locks.below(cloud, site.bucket, LOCKS)]


def is_alive(lock: Lock) -> bool | None:
    here = f"{getpass.getuser()}@{socket.gethostname()}"
    if lock.holder != here or type(lock.pid) is not int or lock.pid <= 0:
        return None
    try:
        os.kill(lock.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's by now, or ours still: nobody can tell
    return True


def is_left(held: Held, now: float) -> bool:
    """The proof that nobody holds it: its process here is gone, or no `up` takes that long."""
    return held.alive is False or (held.alive is None and locks.is_old(held.lock, now))


def judge_locks(site: Site, seen: list[Held]) -> Iterator[Finding]:
    now = time.time()
    for held in seen:
        if is_left(held, now):
            lock = held.lock
            minutes = max(0.0, now - lock.made_at) / 60
            why = "whose process is gone" if held.alive is False else f"{minutes:.0f} min ago"
            what = f"Stack {stack_of(lock)} was locked by {lock.holder}, {why}."
            yield kind("lock-left").finding(what, lock.name)


def stack_of(lock: Lock) -> str:
    return lock.name.removeprefix(LOCKS).partition("/")[0]
