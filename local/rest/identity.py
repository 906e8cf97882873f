"""Who is calling: bearer tokens and what they stand for.

`authorize` and `permit` are where a call is refused; `access.decide` says what is held.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local.rest.access import Resource, decide
from local.rest.errors import ApiError
from local.rest.permissions import ROWS
from local.rest.policies import checked_permissions

if TYPE_CHECKING:
    from local.rest.service import Call
    from local.rest.world import World

USER_TOKEN = "fake"
# In a request's environment: the Principal whose door it came through, for calls without a token.
OWNER = "local.owner"
CREDENTIAL = (
    "Expected OAuth 2 access token, login cookie or other valid authentication credential. "
    "See https://developers.google.com/identity/sign-in/web/devconsole-project."
)


@dataclass(frozen=True)
class Principal:
    """A caller. kind: "user" or "serviceAccount"; roles: what it holds on the project itself."""

    email: str
    kind: str = "user"
    roles: frozenset[str] = field(default_factory=frozenset)

    @property
    def member(self) -> str:
        """As IAM policies name it: `user:dev@example.com`."""
        return f"{self.kind}:{self.email}"


@dataclass(frozen=True)
class _Token:
    principal: Principal
    audience: str | None
    expires_at: float


class Identity:
    """Access and ID tokens that were handed out. Times are Unix seconds."""

    def __init__(self, user: str, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.user = Principal(user, "user", frozenset({"roles/owner"}))
        self._tokens: dict[str, _Token] = {USER_TOKEN: _Token(self.user, None, float("inf"))}

    def mint(self, email: str, lifetime_s: float = 3600, *, kind: str = "serviceAccount") -> str:
        """An access token of a service account; with kind="user", of another user than ours."""
        token = "ya29." + secrets.token_urlsafe(32)
        return self._keep(token, _Token(Principal(email, kind), None, self._clock() + lifetime_s))

    def mint_id_token(self, email: str, audience: str, lifetime_s: float = 3600) -> str:
        """An OIDC token of a service account for `audience`; shaped like a JWT, not signed."""
        now = self._clock()
        claims = {
            "iss": "https://accounts.google.com",
            "aud": audience,
            "sub": email,
            "email": email,
            "email_verified": True,
            "iat": int(now),
            "exp": int(now + lifetime_s),
        }
        parts = [_b64({"alg": "RS256", "typ": "JWT", "kid": "local"}), _b64(claims)]
        caller = Principal(email, "serviceAccount")
        token = ".".join([*parts, secrets.token_urlsafe(32)])
        return self._keep(token, _Token(caller, audience, now + lifetime_s))

    def _keep(self, token: str, meaning: _Token) -> str:
        with self._lock:
            self._tokens[token] = meaning
        return token

    def access(self, token: str | None) -> Principal:
        """Whose access token this is; 401 with Google's words when it is nobody's."""
        if not token:
            raise ApiError(
                401,
                f"Request is missing required authentication credential. {CREDENTIAL}",
                reason="required",
            )
        return self._find(token, None)

    def oidc(self, token: str | None, audience: str) -> Principal:
        """Whose ID token for `audience` this is; 401 otherwise."""
        if not token:
            raise ApiError(
                401, f"Request is missing required authentication credential. {CREDENTIAL}"
            )
        return self._find(token, audience)

    def _find(self, token: str, audience: str | None) -> Principal:
        with self._lock:
            known = self._tokens.get(token)
        if known is None or known.audience != audience or known.expires_at < self._clock():
            raise ApiError(401, f"Request had invalid authentication credentials. {CREDENTIAL}")
        return known.principal


def bearer(header: str | None) -> str | None:
    """The token of an Authorization header."""
    kind, _, token = (header or "").partition(" ")
    return token.strip() or None if kind.lower() == "bearer" else None


def authorize(call: Call) -> None:
    """403 in Google's words unless the caller holds every permission that this method needs."""
    if call.method_id not in ROWS:
        raise ApiError(
            403, f"The local cloud does not know what permission {call.method_id} needs."
        )
    for need in ROWS[call.method_id]:
        for permission, resource in need(call):
            permit(call.world, call.principal, permission, resource)


def permit(world: World, caller: Principal | None, permission: str, resource: Resource) -> None:
    """403 unless `caller` holds `permission` on `resource`; for nobody, without a token, 401."""
    with world.lock:
        decision = decide(world, caller, permission, resource)
    if not decision.held:
        raise refusal(caller, permission, resource, decision.problems)


def refusal(
    caller: Principal | None, permission: str, resource: Resource, problems: tuple[str, ...] = ()
) -> ApiError:
    """As the product that was asked says it, and what was wrong with a condition."""
    why = "".join(f" ({p})" for p in problems)
    if resource.service == "storage.googleapis.com":
        kind = resource.type.rpartition("/")[2].lower()
        text = (
            f"{caller.email if caller else 'Anonymous caller'} does not have {permission} access "
            f"to the Google Cloud Storage {kind}. Permission '{permission}' denied on resource "
            f"(or it may not exist).{why}"
        )
        reason = "forbidden" if caller else "required"
        return ApiError(403 if caller else 401, text, reason=reason)
    if permission.startswith("compute."):
        text = f"Required '{permission}' permission for '{resource.name}'{why}"
        return ApiError(403, text, reason="forbidden")
    detail = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "IAM_PERMISSION_DENIED",
        "domain": resource.service,
        "metadata": {"permission": permission, "resource": resource.name},
    }
    name = f"//{resource.service}/{resource.name}"
    text = f"Permission '{permission}' denied on resource '{name}' (or it may not exist).{why}"
    return ApiError(403, text, details=[detail])


def held_permissions(call: Call, resource: Resource) -> dict[str, Any]:
    """As testIamPermissions answers: those of the permissions asked for that the caller holds."""
    asked = checked_permissions(call.body.get("permissions", []))
    found = [p for p in asked if decide(call.world, call.principal, p, resource).held]
    return {"permissions": found} if found else {}


def _b64(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
