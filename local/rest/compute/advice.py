"""Advice on spot capacity: a zone's obtainability, its preemptions and its list price.

What it says is the local cloud's own, the same in each: the setting `obtainability` moves it.
"""

from __future__ import annotations

import hashlib
from typing import Any

from local.rest.compute.catalogue import MACHINE_TYPES, ZONES, offered, region_of
from local.rest.compute.links import link
from local.rest.compute.service import method
from local.rest.errors import ApiError
from local.rest.service import Call
from local.rest.times import stamp

DAY_S = 86_400
PREEMPTION_DAYS = 30
PRICES = 12
PRICE_DAYS = 30
SPOT = "SPOT"
LIMIT = 1000


@method("advice.capacity")
def capacity(call: Call) -> dict[str, Any]:
    body, region = call.body, call["region"]
    _require_spot(body, "instanceProperties.scheduling.provisioningModel")
    size = body.get("size", 0)
    if not 1 <= size <= LIMIT:
        raise _invalid("size", size, f"It must be between 1 and {LIMIT}.")
    selections = body.get("instanceFlexibilityPolicy", {}).get("instanceSelections", {})
    if len(selections) != 1:
        raise _invalid(
            "instanceFlexibilityPolicy.instanceSelections",
            len(selections),
            "Exactly one instance selection must be specified.",
        )
    (selection,) = selections.values()
    names = selection.get("machineTypes", [])
    if not names:
        raise _invalid("machineTypes", "", "At least one machine type must be specified.")
    zones = _zones(body, region)
    scored = [(_score(call, z), z, name) for z in zones for name in names if _in(name, z)]
    if not scored:
        raise _invalid("machineTypes", names[0], f"It is not available in region {region}.")
    score, zone, name = max(scored)
    return {
        "recommendations": [
            {
                "scores": {
                    "obtainability": score,
                    "estimatedUptime": f"{int(3600 * (1 + 20 * score))}s",
                },
                "shards": [
                    {
                        "zone": zone,
                        "machineType": name,
                        "provisioningModel": SPOT,
                        "instanceCount": size,
                    }
                ],
            }
        ]
    }


@method("advice.capacityHistory")
def capacity_history(call: Call) -> dict[str, Any]:
    body = call.body
    _require_spot(body, "instanceProperties.scheduling.provisioningModel")
    types = body.get("types", [])
    if not types or "HISTORY_TYPE_UNSPECIFIED" in types:
        raise _invalid("types", types, "At least one history type must be specified.")
    name = body.get("instanceProperties", {}).get("machineType", "")
    location = body.get("locationPolicy", {}).get("location") or f"regions/{call['region']}"
    kind, place = location.split("/")[-2:] if "/" in location else ("", location)
    zonal = kind == "zones"
    if (region_of(place) if zonal else place) != call["region"]:
        raise _invalid("locationPolicy.location", location, f"It is not in {call['region']}.")
    if name not in MACHINE_TYPES or (zonal and not _in(name, place)):
        raise _invalid("machineType", name, f"It is not available in {place}.")
    answer: dict[str, Any] = {
        "machineType": name,
        "location": link(f"projects/{call.world.project}/{kind or 'regions'}/{place}"),
    }
    if "PREEMPTION" in types:
        answer["preemptionHistory"] = _preemptions(call, name, place)
    if "PRICE" in types:
        answer["priceHistory"] = _prices(call, name, call["region"])
    return answer


def _require_spot(body: dict[str, Any], field: str) -> None:
    model = body.get("instanceProperties", {}).get("scheduling", {}).get("provisioningModel")
    if model != SPOT:
        raise _invalid(field, model, "Only SPOT is supported.")


def _zones(body: dict[str, Any], region: str) -> list[str]:
    """The zones asked for, or the region's."""
    policy = body.get("distributionPolicy", {})
    given = [z.get("zone", "").rpartition("/")[2] for z in policy.get("zones", [])]
    for zone in given:
        if region_of(zone) != region:
            raise _invalid("distributionPolicy.zones", zone, f"It is not in region {region}.")
    return given or [zone for zone in ZONES if region_of(zone) == region]


def _in(name: str, zone: str) -> bool:
    return offered(name, zone) is not None


def _score(call: Call, zone: str) -> float:
    """What the setting says of the zone, else a number that is always the same for it."""
    told = dict(
        pair.split("=", 1) for pair in str(call.world.settings["obtainability"]).split(",") if pair
    )
    return float(told[zone]) if zone in told else round(0.2 + 0.6 * _share(zone), 2)


def _share(text: str) -> float:
    """0 to 1, the same for the same text."""
    return hashlib.sha256(text.encode()).digest()[0] / 255


def _preemptions(call: Call, name: str, place: str) -> list[dict[str, Any]]:
    return [
        {
            "interval": _interval(call, day, 1),
            "preemptionRate": round(0.1 + 0.4 * _share(f"{name}{place}{day}"), 3),
        }
        for day in range(PREEMPTION_DAYS, 0, -1)
    ]


def _prices(call: Call, name: str, region: str) -> list[dict[str, Any]]:
    gpus, found = max(1, MACHINE_TYPES[name].gpus), []
    for month in range(PRICES, 0, -1):
        cents = int(100 * gpus * (2 + 3 * _share(f"{name}{region}{month}")))
        price = {"currencyCode": "USD", "units": str(cents // 100), "nanos": cents % 100 * 10**7}
        found.append(
            {"interval": _interval(call, month * PRICE_DAYS, PRICE_DAYS), "listPrice": price}
        )
    return found


def _interval(call: Call, days_ago: int, days: int) -> dict[str, str]:
    start = call.world.clock() // DAY_S * DAY_S - (days_ago - 1) * DAY_S
    return {"startTime": stamp(start), "endTime": stamp(start + days * DAY_S)}


def _invalid(field: str, value: object, why: str) -> ApiError:
    return ApiError(400, f"Invalid value for field '{field}': '{value}'. {why}", reason="invalid")
