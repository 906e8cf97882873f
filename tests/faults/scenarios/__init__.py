"""Every scenario. Importing this adds them all to `tests.faults.scenario.ALL`."""

from tests.faults.scenarios import function, google, state, user, vm, watch

__all__ = ["function", "google", "state", "user", "vm", "watch"]
