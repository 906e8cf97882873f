"""Every scenario. Importing this adds them all to `tests.faults.scenario.ALL`."""

from tests.faults.scenarios import watch

__all__ = ["watch"]
