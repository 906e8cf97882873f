"""Ladders made for tests, and Google's answers as operations."""

from typing import Any

from mayfly.capacity import Verdict, classify
from mayfly.ladder.rungs import Place, Rung
from mayfly.ladder.walk import Attempt
from mayfly.pricing import Rate

ZONES = ("us-central1-a", "us-central1-b", "us-central1-c", "us-east4-a", "us-east4-b")


def rung(
    zone: str = ZONES[0],
    *,
    machine: str = "a3-highgpu-8g",
    provisioning: str = "spot",
    usd_per_h: float = 40.0,
    obtainability: float | None = None,
) -> Rung:
    rate = Rate(
        usd_per_h=usd_per_h,
        source="a test",
        date="2026-11-01",
        place=zone,
        machine=machine,
        provisioning=provisioning,
    )
    place = Place(machine=machine, zone=zone, provisioning=provisioning)
    return Rung(place=place, rate=rate, hours=4, egress_usd=0, obtainability=obtainability)


def attempt(at: Rung, error: Any = None, **more: Any) -> Attempt:
    """One that failed with this error (what `classify` takes), or landed."""
    verdict = error if isinstance(error, Verdict | None) else classify(error)
    return Attempt(**({"rung": at, "round": 0, "verdict": verdict, "ended_s": 60.0} | more))


def operation(code: str, message: str = "It did not work.", **metadatas: str) -> dict[str, Any]:
    info = {"errorInfo": {"reason": "resource_availability", "metadatas": metadatas}}
    entry = {"code": code, "message": message, "errorDetails": [info]}
    return {"status": "DONE", "httpErrorStatusCode": 503, "error": {"errors": [entry]}}


def stockout(*zones: str) -> dict[str, Any]:
    return operation(
        "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", zonesAvailable=",".join(zones) or ""
    )
