"""Who may log in: OS Login's users, asked for whenever somebody comes to port 22.

On a VM it is nss_oslogin and sshd's AuthorizedKeysCommand that ask the same two questions.
"""

import http.client
import json
import os
import urllib.parse
from pathlib import Path
from typing import Any

import kernel

METADATA_IP = "169.254.169.254"
KEYS = Path("/var/lib/machine/logins")
ADMINS = Path("/var/lib/machine/admins.json")
PASSWD = Path("/etc/passwd")
_TIMEOUT_S = 5


def refresh() -> None:
    """Keys and accounts as OS Login has them now; on trouble nobody's key counts."""
    KEYS.mkdir(parents=True, exist_ok=True)
    wanted = {}
    admins = []
    for profile in (_ask("users?pagesize=1024") or {}).get("loginProfiles", []):
        name = profile["posixAccounts"][0]["username"]
        if not _may(profile["name"], "login"):
            continue
        keys = profile.get("sshPublicKeys", {}).values()
        wanted[name] = "".join(f"{key['key']}\n" for key in keys)
        make_account(name)
        if _may(profile["name"], "adminLogin"):
            admins.append(name)
    for path in KEYS.iterdir():
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (KEYS / name).write_text(text)
    ADMINS.write_text(json.dumps(admins))


def _may(email: str, policy: str) -> bool:
    query = urllib.parse.urlencode({"email": email, "policy": policy})
    return bool((_ask(f"authorize?{query}") or {}).get("success"))


def _ask(what: str) -> dict[str, Any] | None:
    connection = http.client.HTTPConnection(METADATA_IP, timeout=_TIMEOUT_S)
    try:
        path = f"/computeMetadata/v1/oslogin/{what}"
        connection.request("GET", path, headers={"Metadata-Flavor": "Google"})
        response = connection.getresponse()
        body = response.read()
        found: dict[str, Any] | None = json.loads(body) if response.status == 200 else None
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return found


def make_account(name: str) -> None:
    """A passwd line and a home; every login of a machine has the one identity it can lend."""
    home = Path("/home", name)
    number = kernel.LOGIN_ID
    line = f"{name}:x:{number}:{number}::{home}:/bin/bash\n"
    if line not in PASSWD.read_text():
        with PASSWD.open("a") as passwd:
            passwd.write(line)
    if not home.exists():
        home.mkdir(mode=0o750)
        if kernel.is_mapped(number):
            os.chown(home, number, number)
