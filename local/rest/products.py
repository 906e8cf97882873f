"""Every product that the REST fake serves."""

from __future__ import annotations

from local.rest.compute import service as compute
from local.rest.service import Service

SERVICES: tuple[Service, ...] = (compute,)
