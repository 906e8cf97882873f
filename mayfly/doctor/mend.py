"""What --fix does: few things, each looked at once more, none that a session could miss."""

import time
from collections.abc import Callable, Mapping

from mayfly import locks
from mayfly.cloud import Cloud
from mayfly.doctor.finding import Finding
from mayfly.doctor.remains import is_left
from mayfly.doctor.site import Site
from mayfly.doctor.state import Held, is_alive
from mayfly.doctor.state import is_left as is_left_behind
from mayfly.setup.steps import switch_on


def apis(site: Site, cloud: Cloud, finding: Finding) -> str:
    switch_on(cloud, finding.subject.split())
    return f"Switched on: {finding.subject}."


def lock(site: Site, cloud: Cloud, finding: Finding) -> str:
    """By its generation: a lock that somebody took meanwhile is another one."""
    for found in locks.below(cloud, site.bucket, finding.subject):
        held = Held(found, is_alive(found))
        if is_left_behind(held, time.time()) and locks.remove(cloud, site.bucket, found):
            return f"Removed the lock of {found.holder}."
        return "Left alone: somebody holds it by now."
    return "It is gone already."


def thing(site: Site, cloud: Cloud, finding: Finding) -> str:
    """A disk or an address, by its path; only while it still belongs to nothing."""
    path = f"projects/{site.project}/{finding.subject}"
    found = cloud.ask("GET", "compute", path)
    if found is None:
        return "It is gone already."
    if not is_left(found, time.time()):
        return "Left alone: it is used by now."
    cloud.ask("DELETE", "compute", path)
    return f"Told Google to delete {finding.subject}."


MENDS: Mapping[str, Callable[[Site, Cloud, Finding], str]] = {
    "api-off": apis,
    "lock-left": lock,
    "disk-left": thing,
    "address-left": thing,
}
"""By a finding's id."""
