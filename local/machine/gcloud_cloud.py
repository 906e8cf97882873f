"""What the stand-in gcloud sees of the running local cloud: its API, and the way into a machine."""

import contextlib
import json
import os
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from local.machine import relay
from local.machine.gcloud_words import RefusalError, Words
from local.machine.openssh import OpenSsh
from local.tools_found import openssh_root

IAP_RANGE = "35.235.240.0/20"
USER = "dev@example.com"
ACCESS_VIA_IAP = "iap.tunnelInstances.accessViaIAP"
NO_BACKEND = "4003: 'failed to connect to backend'"
_API_TIMEOUT_S = 10


class Cloud:
    """The running local cloud's API, asked with the user's token."""

    def __init__(self, directory: Path) -> None:
        described = json.loads((directory / "local.json").read_text())
        self.directory = directory
        self.api = described["urls"]["api"]
        own = described["exports"].get("GOOGLE_OAUTH_ACCESS_TOKEN", "")
        self.token = os.environ.get("GOOGLE_OAUTH_ACCESS_TOKEN") or own

    def get(self, path: str) -> dict[str, Any] | None:
        """A Compute resource; None for 404."""
        return self._ask(f"compute/v1/{path}", None)

    def permissions(self, project: str, wanted: list[str]) -> list[str]:
        """Which of them the caller holds on the project."""
        path = f"crm/v1/projects/{project}:testIamPermissions"
        return list((self._ask(path, {"permissions": wanted}) or {}).get("permissions", []))

    def _ask(self, path: str, body: dict[str, Any] | None) -> dict[str, Any] | None:
        request = urllib.request.Request(
            f"{self.api}/{path}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=_API_TIMEOUT_S) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404:
                    return None
                text = error.read().decode(errors="replace")
            with contextlib.suppress(ValueError, KeyError, TypeError):
                text = json.loads(text)["error"]["message"]
            raise RefusalError(
                f"ERROR: (gcloud.compute) Could not fetch resource:\n - {text}"
            ) from error
        except OSError as error:
            raise RefusalError(
                f"ERROR: gcloud crashed (TransportError): {self.api} does not answer: {error}"
            ) from error

    def instance(self, words: Words) -> dict[str, Any]:
        """The VM that the words name, which must exist and run."""
        project, zone = words.option("--project"), words.option("--zone")
        name = words.names[0].rpartition("@")[2]
        path = f"projects/{project}/zones/{zone}/instances/{name}"
        found = self.get(path)
        if found is None:
            raise RefusalError(
                f"ERROR: (gcloud.compute.{words.verb}) Could not fetch resource:\n"
                f" - The resource '{path}' was not found"
            )
        return found

    def check_reachable(self, words: Words, instance: dict[str, Any], port: int) -> None:
        """RefusalError in IAP's words unless its relay would connect to that port."""
        project = words.option("--project")
        if instance["status"] != "RUNNING":
            raise unreachable("4047: 'Failed to lookup instance'")
        if ACCESS_VIA_IAP not in self.permissions(project, [ACCESS_VIA_IAP]):
            raise unreachable("4033: 'not authorized'")
        if not self.allows(project, instance, port):
            raise unreachable(NO_BACKEND)

    def allows(self, project: str, instance: dict[str, Any], port: int) -> bool:
        """Whether a firewall rule lets IAP's range to that port of the VM."""
        rules = self.get(f"projects/{project}/global/firewalls") or {}
        network = instance["networkInterfaces"][0].get("network", "").rpartition("/")[2]
        tags = set(instance.get("tags", {}).get("items", []))
        accounts = {account["email"] for account in instance.get("serviceAccounts", [])}
        return any(
            rule["network"].rpartition("/")[2] == network
            and rule.get("direction", "INGRESS") == "INGRESS"
            and not rule.get("disabled")
            and {IAP_RANGE, "0.0.0.0/0"} & set(rule.get("sourceRanges", []))
            and (not rule.get("targetTags") or tags & set(rule["targetTags"]))
            and (
                not rule.get("targetServiceAccounts")
                or accounts & set(rule["targetServiceAccounts"])
            )
            and any(covers(entry, port) for entry in rule.get("allowed", []))
            for rule in rules.get("items", [])
        )


def covers(entry: dict[str, Any], port: int) -> bool:
    """Whether an `allowed` entry of a rule holds that TCP port."""
    if entry["IPProtocol"] not in ("tcp", "6", "all"):
        return False
    spans = [span.partition("-") for span in entry.get("ports", ["0-65535"])]
    return any(int(low) <= port <= int(high or low) for low, _, high in spans)


def unreachable(why: str) -> RefusalError:
    """What the tunnel says when IAP does not connect it."""
    text = f"ERROR: (gcloud.compute.start-iap-tunnel) Error while connecting [{why}]."
    return RefusalError(text)


def openssh() -> OpenSsh:
    """The host's own, or the one that setup unpacked."""
    root = openssh_root()
    if root is None:
        raise RefusalError("ERROR: (gcloud.compute.ssh) The current environment lacks SSH.")
    return OpenSsh(root)


class Portal:
    """The way into one machine."""

    def __init__(self, directory: Path, identifier: str) -> None:
        self.path = directory / "machines" / identifier / "portal.sock"

    def connect(self, target: str) -> socket.socket | str:
        """A connection to `PORT` or `nic:PORT` inside, or why there is none."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_API_TIMEOUT_S)
        try:
            with relay.short_address(self.path) as address:
                connection.connect(address)
            connection.sendall(f"CONNECT {target}\n".encode())
            answer = relay.read_line(connection)
        except OSError as error:
            connection.close()
            return error.strerror or str(error)
        if answer != "OK":
            connection.close()
            return answer.removeprefix("ERROR ") or "Connection closed"
        connection.settimeout(None)
        return connection

    def alive(self) -> bool:
        """Whether the machine is still on."""
        try:
            with socket.socket(socket.AF_UNIX) as probe, relay.short_address(self.path) as address:
                probe.connect(address)
        except OSError:
            return False
        return True
