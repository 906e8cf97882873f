"""The shape of what commands print with --json: scripts are written against it."""

from typing import Any

import jsonschema

TEXT, TEXT_OR_NULL = {"type": "string"}, {"type": ["string", "null"]}
NUMBER = {"type": "number", "minimum": 0}
NUMBER_OR_NULL = {"type": ["number", "null"], "minimum": 0}
COUNT = {"type": "integer", "minimum": 0}
COUNT_OR_NULL = {"type": ["integer", "null"], "minimum": 0}
TIME = {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"}
TIME_OR_NULL = TIME | {"type": ["string", "null"]}
DAY = {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}
DAY_OR_NULL = DAY | {"type": ["string", "null"]}


def whole(**properties: Any) -> dict[str, Any]:
    """An object with exactly these keys, all of them there."""
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "additionalProperties": False,
    }


def every(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


STAGE = whole(
    stage=TEXT,
    started_at=TIME,
    ended_at=TIME_OR_NULL,
    took_s=NUMBER_OR_NULL,
    bytes=COUNT_OR_NULL,
    ok={"type": ["boolean", "null"]},
)
ROW = whole(
    session=TEXT,
    layer={"enum": ["session", "seed"]},
    profile=TEXT_OR_NULL,
    started_by=TEXT_OR_NULL,
    phase=TEXT,
    message=TEXT,
    mode={"enum": ["fast", "long", "safe", None]},
    max_model_len=COUNT_OR_NULL,
    tok_s=NUMBER_OR_NULL,
    requests_running=COUNT_OR_NULL,
    requests_waiting=COUNT_OR_NULL,
    vm=TEXT,
    vm_id=TEXT,
    zone=TEXT,
    status=TEXT,
    provisioning=TEXT,
    created_at=TIME,
    age_s=COUNT,
    verdict=TEXT_OR_NULL,
    reason=TEXT,
    ends_at=TIME_OR_NULL,
    deadline=TIME_OR_NULL,
    hourly_usd=NUMBER_OR_NULL,
    cost_usd=NUMBER_OR_NULL,
    rate_source=TEXT_OR_NULL,
    rate_date=DAY_OR_NULL,
    rate_warning=TEXT_OR_NULL,
    timeline=every(STAGE),
)
STATUS = whole(project=TEXT, sessions=every(ROW))
WATCH = whole(project=TEXT, sessions=every(ROW), trouble=TEXT_OR_NULL)
IDLE = whole(
    session=TEXT,
    phase=TEXT,
    verdict=TEXT,
    end={"type": "boolean"},
    reason=TEXT,
    ends_at=TIME_OR_NULL,
    deadline=TIME,
    active_at=TIME_OR_NULL,
    activity=TEXT_OR_NULL,
    looked_at=TIME_OR_NULL,
    unknown=TEXT_OR_NULL,
    idle_limit_s=NUMBER,
    kept_until=TIME_OR_NULL,
    kept_by=TEXT_OR_NULL,
)
KEEP = whole(session=TEXT, kept_until=TIME_OR_NULL, kept_by=TEXT_OR_NULL)
CONNECT = whole(session=TEXT, base_url=TEXT, port=COUNT, model=TEXT_OR_NULL, pid=COUNT)
SUM = {"vms": COUNT, "seconds": NUMBER, "usd": NUMBER, "unknown": COUNT}
RECORD = whole(
    **dict.fromkeys(("instance_id", "vm", "zone", "ended_by", "reason"), TEXT),
    **dict.fromkeys(("layer", "session", "profile", "started_by", "machine"), TEXT_OR_NULL),
    **dict.fromkeys(("provisioning", "created", "ended", "rate_source"), TEXT_OR_NULL),
    seconds=NUMBER,
    usd=NUMBER_OR_NULL,
    usd_per_h=NUMBER_OR_NULL,
    rate_date=DAY_OR_NULL,
    timeline=every({"type": "object"}),
)
COST = whole(
    project=TEXT,
    bucket=TEXT,
    total=whole(**SUM),
    records=every(RECORD),
    **{
        f"by_{group}": every(whole(name=TEXT_OR_NULL, **SUM))
        for group in ("session", "user", "profile", "month")
    },
)
BREAK_EVEN = whole(
    **dict.fromkeys(("profile", "machine", "zone", "rate_source", "api_source", "basis"), TEXT),
    **dict.fromkeys(("usd_per_hour", "api_usd_per_m_in", "api_usd_per_m_out"), NUMBER),
    rate_date=DAY,
    points=every(
        whole(
            requests=COUNT,
            tok_s=NUMBER,
            usd_per_m=NUMBER,
            api_usd_per_h=NUMBER,
            busy_share=NUMBER_OR_NULL,
            input_per_output=NUMBER_OR_NULL,
        )
    ),
)


def check(schema: dict[str, Any], told: Any) -> None:
    """Raises jsonschema.ValidationError with the path to what is wrong."""
    jsonschema.validate(told, schema)
