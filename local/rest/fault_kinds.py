"""What a fault is: when it strikes, where, and what it needs to say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

INSERT = "compute.instances.insert"
LOOK = "compute.instances.get"
CONTENT = "storage.objects.get"  # with where {"alt": "media"}: not its metadata


class Effect(Enum):
    """When and how a fault strikes."""

    ANSWER = "answer"  # instead of the call
    ANSWER_AFTER = "answer-after"  # the call takes effect, the answer says otherwise
    DROP = "drop"  # the connection closes; nothing happened
    DROP_AFTER = "drop-after"  # the connection closes; it did happen
    OPERATION = "operation"  # 200, then the operation fails
    OPERATION_AFTER = "operation-after"  # the operation fails, and a stopped VM stays
    SLOW = "slow"  # the operation runs for a while
    STATUS = "status"  # a read shows another status
    CORRUPT = "corrupt"  # an object's content arrives with one bit turned


@dataclass(frozen=True)
class Scene:
    """Where a fault strikes, for the texts that name it."""

    project: str
    zone: str
    name: str
    machine: str

    @property
    def region(self) -> str:
        return self.zone.rpartition("-")[0]

    @property
    def path(self) -> str:
        return f"projects/{self.project}/zones/{self.zone}/instances/{self.name}"


def scene(project: str, params: Mapping[str, str], body: Any) -> Scene:
    """What the texts need, from any call on an instance."""
    fields = body if isinstance(body, dict) else {}
    return Scene(
        project=params.get("project", project),
        zone=params.get("zone", "us-central1-a"),
        name=params.get("instance") or str(fields.get("name", "")),
        machine=str(fields.get("machineType", "")).rpartition("/")[2] or "a3-highgpu-8g",
    )


@dataclass(frozen=True)
class OperationError:
    """How an operation fails: one entry of `error.errors` and the HTTP status beside it."""

    status: int
    status_words: str
    entry: dict[str, Any]


Build = Callable[[Scene, Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Recipe:
    """One fault. options: what an order may set, with its default."""

    effect: Effect
    build: Build
    method: str = INSERT
    options: Mapping[str, Any] = field(default_factory=dict)
