"""The state of one local cloud. All of it is in memory and behind one lock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar

from local.rest.calls import Calls
from local.rest.faults import Faults
from local.rest.identity import Identity
from local.rest.machines import Machines, NoMachines
from local.rest.settings import DEFAULTS, changed

T = TypeVar("T")


class World:
    """What every product shares.

    project, project_number: the one project there is. base_url: where this app is served, set by
    whoever serves it, without a trailing slash. clock: Unix seconds.
    settings: kept and changed in place: machines made with the same dict see every change.
    enabled: says whether the project has an API switched on ("run.googleapis.com").
    service_account_exists: by email. Both are set by the products that know.
    """

    def __init__(
        self,
        project: str = "proj",
        *,
        project_number: str = "123456789012",
        user: str = "dev@example.com",
        machines: Machines | None = None,
        settings: dict[str, Any] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.project = project
        self.project_number = project_number
        self.base_url = "http://127.0.0.1"
        self.clock = clock
        self.lock = threading.RLock()
        self.machines: Machines = machines or NoMachines()
        self.settings: dict[str, Any] = {} if settings is None else settings
        self.settings.update(changed(DEFAULTS, self.settings))
        self.identity = Identity(user, clock)
        self.calls = Calls()
        self.faults = Faults()
        self.enabled: Callable[[str], bool] = lambda api: True
        self.service_account_exists: Callable[[str], bool] = lambda email: True
        self._parts: dict[type, Any] = {}
        self._last_id = 1_000_000_000_000_000_000
        self._machine_wirings: list[Callable[[Machines], None]] = []
        self._followers: list[Callable[[], None]] = []
        self._closers = ExitStack()

    def of(self, kind: type[T]) -> T:
        """This world's one `kind(world)`: where a product keeps its state."""
        with self.lock:
            if kind not in self._parts:
                self._parts[kind] = kind(self)  # type: ignore[call-arg]
            part: T = self._parts[kind]
            return part

    def new_id(self) -> str:
        """A numeric id, never given twice."""
        with self.lock:
            self._last_id += 1
            return str(self._last_id)

    def change_settings(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Settings after the change; SettingError names each wrong one."""
        with self.lock:
            self.settings.update(changed(self.settings, changes))
            for follow in self._followers:
                follow()
            return dict(self.settings)

    def follow_settings(self, follow: Callable[[], None]) -> None:
        """Call this now and after every change of the settings, under the lock."""
        self._followers.append(follow)
        follow()

    def use_machines(self, machines: Machines) -> None:
        """Boot instances on these from now on; whoever listens gives them their callbacks."""
        self.machines = machines
        for wire in self._machine_wirings:
            wire(machines)

    def wire_machines(self, wire: Callable[[Machines], None]) -> None:
        """Call `wire` with the machines of now and with every later ones."""
        self._machine_wirings.append(wire)
        wire(self.machines)

    def on_close(self, closer: Callable[[], None]) -> None:
        """Call this when the local cloud goes (timers, threads, processes)."""
        self._closers.callback(closer)

    def close(self) -> None:
        """Stop everything that runs by itself; safe to call twice."""
        self._closers.close()
