"""When Google itself deletes the VM."""

from datetime import UTC, datetime, timedelta

import pulumi


def deadline(created_at: pulumi.Output[str], max_life_s: float) -> pulumi.Output[str]:
    """RFC 3339 in UTC, from Compute's creation time; the deletion may come up to 30 s later."""
    return created_at.apply(lambda text: _after(text, max_life_s))


def _after(created_at: str, seconds: float) -> str:
    moment = datetime.fromisoformat(created_at).astimezone(UTC) + timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
