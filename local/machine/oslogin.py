"""OS Login: whose key opens which machine. gcloud imports a key, each machine asks at a login.

Kept in `oslogin.json` of the local cloud's folder: {email: {"keys": [line], "login", "admin"}}.
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PERMISSIONS = {"login": "compute.instances.osLogin", "adminLogin": "compute.instances.osAdminLogin"}


def username(email: str) -> str:
    """As OS Login makes it of an address."""
    return re.sub(r"[^a-z0-9]", "_", email.lower())[:32]


@dataclass(frozen=True)
class OsLogin:
    """The service of one local cloud."""

    directory: Path

    @property
    def path(self) -> Path:
        return self.directory / "oslogin.json"

    def read(self) -> dict[str, dict[str, Any]]:
        return dict(json.loads(self.path.read_text())) if self.path.exists() else {}

    def import_key(self, email: str, key: str, permissions: list[str]) -> str:
        """Keep a key of theirs and what they may do on the project; the name they log in by."""
        known = self.read()
        keys = known.get(email, {}).get("keys", [])
        known[email] = {"keys": [*dict.fromkeys([*keys, key])], "permissions": permissions}
        scratch = self.path.with_suffix(f".{os.getpid()}")
        scratch.write_text(json.dumps(known))
        scratch.replace(self.path)
        return username(email)

    def profiles(self) -> list[dict[str, Any]]:
        """As the metadata server answers oslogin/users."""
        return [
            {
                "name": email,
                "posixAccounts": [{"primary": True, "username": username(email)}],
                "sshPublicKeys": {
                    hashlib.sha256(key.encode()).hexdigest(): {"key": key} for key in found["keys"]
                },
            }
            for email, found in self.read().items()
        ]

    def may(self, email: str, policy: str) -> bool:
        """Whether they held the policy's permission when their key was imported."""
        found = self.read().get(email, {})
        return PERMISSIONS.get(policy) in found.get("permissions", [])
