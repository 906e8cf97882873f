"""Compute Engine: `service` holds every handler of compute.v1 and compute.beta."""

from local.rest.compute import (
    advice,
    changes,
    disks,
    firewalls,
    images,
    instances,
    networks,
    operations,
    places,
    routers,
)
from local.rest.compute.service import service

__all__ = [
    "advice",
    "changes",
    "disks",
    "firewalls",
    "images",
    "instances",
    "networks",
    "operations",
    "places",
    "routers",
    "service",
]
