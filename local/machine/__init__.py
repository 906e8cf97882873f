"""Machines: created instances that really boot, in namespaces of their own."""

from local.machine.machines import Image, MachineError, Machines

__all__ = ["Image", "MachineError", "Machines"]
