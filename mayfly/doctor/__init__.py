"""What is wrong, what it means, what to paste: in a pasted log, and in a project."""

from mayfly.doctor.finding import Finding
from mayfly.doctor.log import diagnose

__all__ = ["Finding", "diagnose"]
