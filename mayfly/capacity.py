"""What a failed launch means, and what to do next.

Google answers in three voices: the error of a zone operation (has codes), an HTTP error (has a
status and a reason), and the text that Pulumi prints (has neither codes nor `zonesAvailable`).
One list of rules reads all three; the first that matches decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Action = Literal["next_zone", "next_region", "stop", "look_first", "retry"]

# "us-central1-a" and the like; a region has no letter at its end.
ZONE = r"[a-z]+-[a-z]+\d+-[a-z]"


@dataclass(frozen=True)
class Verdict:
    """zones: where Google says there is room, best first; only with next_zone.

    reason: for people. lasting: it will be the same in an hour. id: of the rule that decided; ""
    where none did.
    """

    action: Action
    zones: tuple[str, ...]
    reason: str
    lasting: bool = False
    id: str = ""


@dataclass(frozen=True)
class Rule:
    """id: what remedies and findings know it by."""

    id: str
    action: Action
    reason: str
    pattern: str
    lasting: bool = False


# Order matters: a 403 alone decides nothing, so what its text says comes before the status; a
# regional stockout names zones too; a quota text may carry a permission-like status.
RULES = (
    Rule(
        "no-capacity-region",
        "next_region",
        "no capacity in the whole region",
        r"REGION_RESOURCE_POOL_EXHAUSTED|The region '\S+' does not have enough resources",
    ),
    Rule(
        "no-capacity",
        "next_zone",
        "no capacity in the zone",
        r"RESOURCE_POOL_EXHAUSTED|GPU_STOCKOUT|STOCKOUT|insufficientCapacity"
        r"|VM_MIN_COUNT_NOT_REACHED|does not have enough resources available"
        r"|is currently unavailable in the",
    ),
    Rule(
        "quota-global",
        "stop",
        "a limit over all regions: no zone can help",
        r"GPUS[-_]ALL[-_]REGIONS|Quota '\S+' exceeded\.\s+Limit: \S+ globally",
    ),
    Rule(
        "quota-region",
        "next_region",
        "the region's quota is used up: retrying there never helps",
        r"QUOTA_EXCEEDED|quotaExceeded|Quota '\S+' exceeded",
        lasting=True,
    ),
    Rule(
        "rate-limit",
        "retry",
        "too many calls a minute",
        r"rateLimitExceeded|RATE_LIMIT_EXCEEDED|Error 429|\b429\b|[Rr]ate [Ll]imit [Ee]xceeded"
        r"|Quota exceeded for quota metric .* per minute",
    ),
    Rule(
        "api-off",
        "stop",
        "an API is off in this project",
        r"accessNotConfigured|SERVICE_DISABLED|has not been used in project",
    ),
    Rule(
        "billing-off",
        "stop",
        "billing is off in this project",
        r"billing to be enabled|billingDisabled",
    ),
    Rule(
        "org-policy",
        "stop",
        "an organisation policy forbids it",
        r"conditionNotMet|[Cc]onstraint \S*constraints/|orgPolicy|Error 412",
    ),
    Rule(
        "credentials",
        "stop",
        "the credentials are missing, wrong or expired",
        r"Error 401|authError|UNAUTHENTICATED|no-credentials|invalid authentication credentials",
    ),
    Rule(
        "not-ready",
        "retry",
        "something it needs is not ready yet",
        r"resourceNotReady|is not ready\b",
    ),
    Rule(
        "not-offered",
        "next_zone",
        "the zone does not offer this machine this way",
        r"is not supported for this machine type"
        r"|Machine type with name '\S+' does not exist in zone"
        r"|acceleratorTypes/\S+' was not found|machineTypes/\S+' was not found"
        r"|RESOURCE_NOT_FOUND[\s\S]*machineTypes/",
        lasting=True,
    ),
    Rule(
        "preempted",
        "next_zone",
        "preempted while it was being created",
        r"\bPREEMPTED\b|was preempted|UNSUPPORTED_OPERATION",
    ),
    Rule(
        "vm-exists",
        "look_first",
        "a VM of that name exists: this launch may have made it",
        r"alreadyExists|already exists|Error 409",
    ),
    Rule(
        "vm-lost",
        "look_first",
        "the VM was made and then not found",
        r"couldn't find resource \(\d+ retries\)|waiting for instance to reach desired status",
    ),
    Rule(
        "permission",
        "stop",
        "a permission is missing",
        r"Required '\S+' permission|PERMISSION_DENIED|forbidden",
    ),
    Rule(
        "google-failed",
        "look_first",
        "Google failed in the middle: a VM may exist",
        r"INTERNAL_ERROR|[Ii]nternal error|Error 5\d\d|backendError|SERVICE_UNAVAILABLE|UNAVAILABLE"
        r"|The service is currently unavailable",
    ),
    Rule(
        "connection",
        "look_first",
        "the connection broke: a VM may exist",
        r"\bEOF\b|connection (reset|refused|aborted)|Connection(Reset|Aborted|Refused)?Error"
        r"|timed? ?out|unreachable|deadline exceeded|broken pipe|RemoteDisconnected|no such host",
    ),
    Rule(
        "not-found",
        "stop",
        "something it needs does not exist",
        r"Error 404|was not found|notFound",
    ),
    Rule(
        "bad-request",
        "stop",
        "Google refuses the request as it is",
        r"Error 400|\binvalid\b|badRequest",
    ),
)


def classify(error: Mapping[str, Any] | BaseException | str) -> Verdict:
    """What to do after a failed launch.

    error: an operation or its `error` object, an exception of a client, or Pulumi's text.
    Anything unknown is "stop": who does not know what happened must not buy another machine.
    """
    text = "\n".join(_words(error))
    for rule in RULES:
        if re.search(rule.pattern, text):
            zones = _zones(error, text) if rule.action == "next_zone" else ()
            return Verdict(rule.action, zones, rule.reason, rule.lasting, rule.id)
    return Verdict("stop", (), "an error that mayfly does not know")


def _words(error: Any) -> Iterator[str]:
    """Every text in the error, whatever its shape, with HTTP statuses as Pulumi prints them."""
    if isinstance(error, str):
        yield error
    elif isinstance(error, BaseException):
        yield f"{type(error).__name__}: {error}"
        status = getattr(error, "status", None) or getattr(error, "code", None)
        if isinstance(status, int):
            yield f"Error {status}"
        yield from _words([getattr(error, name, None) for name in ("reason", "message", "body")])
        yield from _words(error.__cause__)
    elif isinstance(error, Mapping):
        for name, value in error.items():
            if name == "httpErrorStatusCode":
                continue  # an operation's status repeats, coarser, what its code says
            yield from _words(value)
    elif isinstance(error, list | tuple):
        for item in error:
            yield from _words(item)
    elif isinstance(error, bytes):
        yield error.decode(errors="replace")


def _zones(error: Any, text: str) -> tuple[str, ...]:
    """Zones with room: Google's own list where there is one, else the ones its prose proposes."""
    listed = _zones_available(error)
    if not listed:
        # Pulumi may break the sentence over lines.
        proposed = re.search(r"trying your request in the\s+(.*?)\s+zone\(s\)", text, re.S)
        listed = re.findall(ZONE, proposed.group(1)) if proposed else []
    return tuple(dict.fromkeys(listed))


def _zones_available(error: Any) -> list[str]:
    if isinstance(error, BaseException):
        return _zones_available(getattr(error, "body", None))
    if isinstance(error, Mapping):
        value = error.get("zonesAvailable")
        if isinstance(value, str):
            return re.findall(ZONE, value)
        error = list(error.values())
    if isinstance(error, list | tuple):
        return next((found for item in error if (found := _zones_available(item))), [])
    return []
