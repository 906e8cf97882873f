"""The shape of what the commands before and around a launch print with --json."""

from typing import Any

from mayfly.doctor import examine
from mayfly.names import PROVISIONING
from tests.desk.schemas import (
    COUNT,
    COUNT_OR_NULL,
    DAY,
    DAY_OR_NULL,
    NUMBER,
    NUMBER_OR_NULL,
    TEXT,
    TEXT_OR_NULL,
    every,
    whole,
)

FLAG = {"type": "boolean"}
PROVISIONED = {"enum": list(PROVISIONING)}
PAIR = {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2}
RANGE_OR_NULL = PAIR | {"type": ["array", "null"]}


def each(item: dict[str, Any]) -> dict[str, Any]:
    """An object with names of its own, each leading to one such item."""
    return {"type": "object", "additionalProperties": item}


RATE = whole(
    usd_per_hour=NUMBER, place=TEXT, provisioning=PROVISIONED, rate_source=TEXT, rate_date=DAY
)
PRICE = {
    "zone": TEXT,
    "provisioning": PROVISIONED,
    "usd_per_hour": NUMBER_OR_NULL,
    "rate_source": TEXT_OR_NULL,
    "rate_date": DAY_OR_NULL,
    "rate_warning": TEXT_OR_NULL,
    "usd_per_hour_range": RANGE_OR_NULL,
    "deadline_hours": NUMBER,
    "total_usd": NUMBER_OR_NULL,
    "total_usd_range": RANGE_OR_NULL,
    "budget_usd": NUMBER_OR_NULL,
    "budget_rate": {"anyOf": [RATE, {"type": "null"}]},
    "weights": whole(
        gib=NUMBER, usd_per_month=NUMBER, rate_source=TEXT, rate_date=DAY, rate_place=TEXT
    ),
    "other_rates": every(RATE),
}
MODE = {
    **dict.fromkeys(("max_context", "max_requests", "kv_bytes_per_token", "kv_tokens"), COUNT),
    **dict.fromkeys(("tensor_parallel", "pipeline_parallel", "context_parallel"), COUNT),
    **dict.fromkeys(("weights_gib_per_gpu", "reserve_gib_per_gpu", "kv_gib_per_gpu"), NUMBER),
    "context_as_wished": FLAG,
    "max_concurrency": NUMBER,
    "flags": every(TEXT),
    "reasons": every(TEXT),
    "frontier": every(PAIR),
    "speed": whole(
        tok_s_per_request={"anyOf": [each(NUMBER), {"type": "null"}]},
        basis=TEXT,
    ),
}
ASKED = {
    **dict.fromkeys(("profile", "model", "machine", "gpus", "engine", "weights_from"), TEXT),
    "nodes": COUNT,
    "weights_from": TEXT,
    "mode": {"enum": ["fast", "long"]},
    "reasons": every(TEXT),
}
TOP = ("weights_gib_per_gpu", "kv_gib_per_gpu", "kv_tokens", "max_context", "max_concurrency")
BESIDE = whole(
    machine=TEXT,
    nodes=COUNT,
    max_context=COUNT,
    kv_tokens=COUNT,
    usd_per_hour=NUMBER_OR_NULL,
    rate_source=TEXT_OR_NULL,
    rate_date=DAY_OR_NULL,
)
PLAN = whole(
    **ASKED,
    **PRICE,
    **{key: MODE[key] for key in TOP},
    fits={"const": True},
    flags=every(TEXT),
    beside=every(BESIDE),
    modes=each(whole(**MODE)),
    refused_modes=each(TEXT),
)
NEAREST = {
    "machine": TEXT,
    "machines": COUNT,
    "max_context": COUNT_OR_NULL,
    "command": TEXT_OR_NULL,
}
PLAN_NO = whole(
    **ASKED,
    **PRICE,
    fits={"const": False},
    nearest={"anyOf": [whole(**NEAREST), whole(**NEAREST, note=TEXT)]},
)
PROFILES = whole(profiles=every(whole(profile=TEXT, summary=TEXT, machines=every(TEXT))))
PLACED = {"profile": TEXT, "machine": TEXT}
FITS = whole(**PLACED, fits={"const": True}, **MODE)
FITS_NOT = whole(**PLACED, fits={"const": False}, reason=TEXT, nodes=COUNT_OR_NULL)
PLAN_ALL = whole(**dict.fromkeys(("fast", "long"), every({"anyOf": [FITS, FITS_NOT]})))
PROFILE_CHECK = whole(profiles=each(every(TEXT)))

DIMENSIONS = each(TEXT)
LIMIT = {"quota_id": TEXT, "dimensions": DIMENSIONS}
REQUEST = whole(
    **LIMIT,
    asked=COUNT,
    granted=COUNT,
    state={"enum": ["waiting", "granted", "refused"]},
    detail=TEXT,
)
QUOTA_LIST = whole(
    project=TEXT,
    limits=every(whole(**LIMIT, limit={"type": "integer", "minimum": -1})),
    requests=every(REQUEST),
)
QUOTA_REQUEST = whole(region=TEXT, requests=every(REQUEST))
ADVICE = whole(
    **dict.fromkeys(("zone", "price_since", "problem"), TEXT),
    **dict.fromkeys(("obtainability", "uptime_s", "preemption_rate", "usd_per_h"), NUMBER_OR_NULL),
    table_usd_per_h=NUMBER_OR_NULL,
    table_source=TEXT_OR_NULL,
    table_date=DAY_OR_NULL,
)
CAPACITY = whole(project=TEXT, machine=TEXT, zones=every(ADVICE))

RUNG = {
    **dict.fromkeys(("machine", "zone", "rate_source"), TEXT),
    **dict.fromkeys(("usd_per_hour", "hours", "egress_usd", "usd"), NUMBER),
    "provisioning": PROVISIONED,
    "rate_date": DAY,
    "obtainability": NUMBER_OR_NULL,
}
UP = whole(
    session=TEXT,
    attempts=every(whole(**RUNG, outcome=TEXT, ended_s=NUMBER)),
    outputs={"type": "object"},
)
UP_DRY = whole(rungs=every(whole(**RUNG)), left_out=every(whole(place=TEXT, why=TEXT)))

SOME = {"type": "string", "minLength": 1}
FINDING = whole(
    **dict.fromkeys(("id", "found", "meaning", "remedy"), SOME), grave=FLAG, subject=TEXT
)
DOCTOR = whole(
    project=SOME,
    profile=SOME,
    findings=every(FINDING),
    unknown=each(SOME),
    fine=every({"enum": list(examine.CHECKS)}),
)
DOCTOR_LOG = whole(log=SOME, findings=every(FINDING))
QUOTA_CHECK = whole(
    **dict.fromkeys(("project", "profile", "machine"), TEXT),
    provisioning=PROVISIONED,
    enough=FLAG,
    enough_in=every(TEXT),
    regions=each(
        every(
            whole(
                quota_id=TEXT,
                needed=COUNT,
                limit={"type": ["integer", "null"], "minimum": -1},
                short=FLAG,
            )
        )
    ),
)

FIGURES = whole(weights_gib=NUMBER, kv_gib=NUMBER, kv_tokens=COUNT)
PROBED = {
    **dict.fromkeys(("profile", "model", "machine", "rank", "leaves_out", "gpu"), TEXT),
    **dict.fromkeys(("planned_engine", "engine"), TEXT),
    **dict.fromkeys(("gpu_gib", "planned_gpu_gib"), NUMBER),
    "mode": {"enum": ["fast", "long"]},
    "predicted": FIGURES,
    "measured": {"type": "object"},  # whatever the engine's log told
    "difference_percent": each({"type": "number"}),
    "exit": {"type": ["integer", "string"]},
}
PROBE = whole(**PROBED)
PROBE_CLOUD = whole(**PROBED, zone=TEXT, log=TEXT, left=TEXT_OR_NULL)
DEMO = {
    "type": "object",
    "required": ["ok", "seconds", "stages"],
    "properties": {
        "ok": FLAG,
        "seconds": NUMBER,
        "stages": every(whole(name=TEXT, seconds=NUMBER)),
        "error": SOME,
        "teardown": whole(
            reason=TEXT,
            ended_by=TEXT,
            resources_left=every(TEXT),
            vm_seconds=NUMBER,
            usd=NUMBER_OR_NULL,
        ),
        "rest_calls": COUNT,
    },
}
COMPARED = whole(
    a=TEXT,
    b=TEXT,
    differences=every(
        whole(
            **dict.fromkeys(("load", "figure", "verdict"), TEXT),
            **{key: {"type": "number"} for key in ("a", "b", "low", "high")},
        )
    ),
)
