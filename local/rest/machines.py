"""The seam to what an instance runs on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Machines(Protocol):
    """What boots instances. Called from any thread; `update` alone under the world's lock.

    The callbacks are set by the REST fake: guest_attributes(instance_id, "ns/key", value or None
    for a deleted one), powered_off(instance_id) when the guest halted by itself, token(service
    account email), identity(service account email, audience), permits(from, to, "tcp", port):
    whether one instance may begin to talk to another.
    """

    guest_attributes: Callable[[str, str, str | None], None]
    powered_off: Callable[[str], None]
    token: Callable[[str], str]
    identity: Callable[[str, str], str]
    permits: Callable[[str, str, str, int], bool]

    def boot(self, instance: dict[str, Any]) -> None:
        """Start the machine's processes; `instance` is the REST resource as stored."""

    def update(self, instance: dict[str, Any]) -> None:
        """The resource has changed: the metadata server answers from this one now."""

    def notice_preemption(self, instance_id: str) -> None:
        """The metadata server says from now on that the machine is preempted; `stop` follows."""

    def stop(self, instance_id: str) -> None:
        """Ask the guest to halt, then make it; returns when nothing runs."""

    def destroy(self, instance_id: str) -> None:
        """Stop it, and forget it and its directory."""

    def serial(self, instance_id: str) -> str:
        """All that the guest wrote to its serial console."""

    def commands(self, instance_id: str) -> list[dict[str, Any]]:
        """Every stub invocation: {"t", "argv", "exit"}."""


class NoMachines:
    """Instances that run nothing: for tests of the REST fake alone."""

    guest_attributes: Callable[[str, str, str | None], None]
    powered_off: Callable[[str], None]
    token: Callable[[str], str]
    identity: Callable[[str, str], str]
    permits: Callable[[str, str, str, int], bool]

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.output: dict[str, str] = {}

    def boot(self, instance: dict[str, Any]) -> None:
        self.events.append(("boot", instance["id"]))

    def update(self, instance: dict[str, Any]) -> None:
        self.events.append(("update", instance["id"]))

    def notice_preemption(self, instance_id: str) -> None:
        self.events.append(("preempted", instance_id))

    def stop(self, instance_id: str) -> None:
        self.events.append(("stop", instance_id))

    def destroy(self, instance_id: str) -> None:
        self.events.append(("destroy", instance_id))

    def serial(self, instance_id: str) -> str:
        return self.output.get(instance_id, "")

    def commands(self, instance_id: str) -> list[dict[str, Any]]:
        return []
