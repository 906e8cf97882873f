"""The ledger, read and added up: what the VMs that are gone have cost, and whose they were."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from mayfly import ledger, names
from mayfly.cloud import Cloud
from mayfly.errors import FailedError
from mayfly.ledger import Record

AT_ONCE = 16
MONTH_CHARS = len("2026-11")
GROUPS: dict[str, Callable[[Record], str | None]] = {
    "session": lambda record: record.session,
    "user": lambda record: record.started_by,
    "profile": lambda record: record.profile,
    "month": lambda record: record.created[:MONTH_CHARS] if record.created else None,
}


@dataclass(frozen=True)
class Sum:
    """Some lives together. usd: of those whose rate is known; unknown: how many ran at none."""

    vms: int
    seconds: float
    usd: float
    unknown: int


def read(cloud: Cloud, bucket: str) -> list[Record]:
    """Every record, oldest first. FailedError names the one that cannot be read: no sum without
    it would be right."""

    def one(name: str) -> Record | None:
        blob = cloud.storage.get(bucket, name)
        return None if blob is None else parse(blob.data, f"gs://{bucket}/{name}")

    listed = [str(item["name"]) for item in cloud.storage.list(bucket, names.LEDGER_PREFIX)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = [record for record in pool.map(one, listed) if record is not None]
    return sorted(found, key=lambda record: (record.created or "", record.instance_id))


def parse(data: bytes, address: str) -> Record:
    """One record. FailedError says how to look at it where it is not one."""
    try:
        return ledger.from_json(data, address)
    except FailedError as error:
        raise FailedError(
            str(error),
            "Every sum would be wrong without it; nothing was changed, and nothing more runs.",
            f"Try: gcloud storage cat {address}",
        ) from error


def told(project: str, bucket: str, records: list[Record]) -> dict[str, Any]:
    """All of it as one JSON object."""
    groups = {
        f"by_{group}": [{"name": name, **asdict(summed)} for name, summed in sums(records, group)]
        for group in GROUPS
    }
    total = asdict(add(records))
    rows = [asdict(record) for record in records]
    return {"project": project, "bucket": bucket, "total": total, **groups, "records": rows}


def sums(records: Iterable[Record], group: str) -> list[tuple[str | None, Sum]]:
    """One sum a session, user, profile or month, the dearest first; months in their order."""
    found: dict[str | None, list[Record]] = {}
    for record in records:
        found.setdefault(GROUPS[group](record), []).append(record)
    added = [(name, add(members)) for name, members in found.items()]
    if group == "month":
        return sorted(added, key=lambda pair: pair[0] or "")
    return sorted(added, key=lambda pair: (-pair[1].usd, pair[0] or ""))


def add(records: list[Record]) -> Sum:
    """The sum of some records: an unknown cost is counted, never guessed."""
    known = [record.usd for record in records if record.usd is not None]
    seconds = round(sum(record.seconds for record in records), 3)
    return Sum(len(records), seconds, round(sum(known), 6), len(records) - len(known))
