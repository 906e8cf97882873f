"""What Google answered when it did not do what was asked."""

import json
from typing import Any

from mayfly.cloud.denied import NOTHING, denial
from mayfly.errors import FailedError

UNREACHABLE = "unreachable"
NO_CREDENTIALS = "no-credentials"
NOT_JSON = "not-json"
CORRUPTED = "corrupted"

PASSING = frozenset({429, 500, 502, 503, 504})
"""HTTP statuses of troubles that go by themselves."""

REMEDIES = {
    401: "Try: gcloud auth application-default login",
    403: "Try: ask the project's owner for the right that Google names, or name another project",
}
"""By HTTP status, for what the user can do."""


class CloudError(FailedError):
    """One call to Google failed, retries included.

    status: HTTP status; 0 when no answer came.
    reason: Google's own word ("quotaExceeded", "PERMISSION_DENIED"), "unreachable",
        "no-credentials", "not-json" or "corrupted".
    message: one plain line naming the call and what Google said.
    body: the answer as it came, parsed when it is JSON; None when no answer came.
    """

    def __init__(
        self, status: int, reason: str, message: str, body: Any = None, remedy: str = ""
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.status, self.reason, self.message, self.body = status, reason, message, body

    def in_three_lines(self) -> FailedError:
        """The same for a person at a desk."""
        what, _, _ = self.message.partition(": no answer")
        if self.reason == UNREACHABLE:
            host = what.partition(" ")[2].partition("/")[0]
            remedy = "Try: the same command again when this machine is online"
            if not host.endswith(".googleapis.com"):
                remedy = f"Try: a new shell (this one's GOOGLE_*_CUSTOM_ENDPOINT lead to {host})"
            return FailedError(
                f"Google does not answer: no connection to {host}.",
                "Nothing was changed; what runs goes on and ends by its own rule.",
                remedy,
            )
        if known := denial(self.message):
            return FailedError(known[1], NOTHING, f"Try: {known[2]}")
        remedy = self.remedy or REMEDIES.get(self.status, "Try: the same command again")
        return FailedError(self.message, NOTHING, remedy)

    @property
    def passes(self) -> bool:
        """Whether the same call may be answered a little later."""
        return self.reason == UNREACHABLE or self.status in PASSING

    @property
    def denied(self) -> str:
        """Which of denied.py's kinds it is; "" for none of them."""
        known = denial(self.message)
        return known[0] if known else ""


def refusal(call: str, status: int, text: str) -> CloudError:
    """Turn an answer of 400 or more into a CloudError; never raises itself."""
    try:
        body: Any = json.loads(text)
    except ValueError:
        body = text
    reason, said = _read(body)
    return CloudError(status, reason, f"{call}: {status} {reason or 'refused'}: {said}", body)


def _read(body: Any) -> tuple[str, str]:
    """Google's reason and sentence, from either of its two error shapes or plain text."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return "", _one_line(body if isinstance(body, str) else json.dumps(body))
    entries = error.get("errors")
    first = entries[0] if isinstance(entries, list) and entries else {}
    reason = first.get("reason") if isinstance(first, dict) else None
    return str(reason or error.get("status") or ""), _one_line(str(error.get("message", "")))


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500] or "(no text)"
