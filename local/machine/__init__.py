"""Machines: created instances that really boot, in namespaces of their own."""

from local.machine.image import Image
from local.machine.machines import MachineError, Machines

__all__ = ["Image", "MachineError", "Machines"]
