"""What Google answered when it did not do what was asked."""

import json
from typing import Any

from mayfly.errors import FailedError

UNREACHABLE = "unreachable"
NO_CREDENTIALS = "no-credentials"
NOT_JSON = "not-json"


class CloudError(FailedError):
    """One call to Google failed, retries included.

    status: HTTP status; 0 when no answer came.
    reason: Google's own word ("quotaExceeded", "PERMISSION_DENIED"), "unreachable",
        "no-credentials" or "not-json".
    message: one plain line naming the call and what Google said.
    body: the answer as it came, parsed when it is JSON; None when no answer came.
    """

    def __init__(
        self, status: int, reason: str, message: str, body: Any = None, remedy: str = ""
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.status, self.reason, self.message, self.body = status, reason, message, body


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
