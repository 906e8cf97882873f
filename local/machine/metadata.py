"""The metadata server of one machine, answering on a socket that listens inside it."""

import functools
import json
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from typing import Any

from local.machine.metadata_form import recursive, render
from local.machine.oslogin import OsLogin

ROOT = "/computeMetadata/v1"
TOKEN_LIFE_S = 3599
_ATTRIBUTE_LIMIT = 256 * 1024
_WAIT_LIMIT_S = 60.0
_POLL_S = 0.2
HTML = "text/html; charset=UTF-8"


@dataclass(frozen=True)
class Project:
    """Whom the machine belongs to."""

    project_id: str
    number: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where answers come from.

    instance: the REST resource as it is now. token: service account email -> access token.
    identity: (email, audience) -> OIDC token. attribute: ("ns/key", value), None to delete.
    """

    project: Project
    instance: Callable[[], dict[str, Any]]
    token: Callable[[str], str]
    identity: Callable[[str, str], str]
    attribute: Callable[[str, str | None], None]
    oslogin: OsLogin


class RefusedError(Exception):
    """An answer that is not 200."""

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(text)
        self.status, self.text = status, text


def basename(link: str) -> str:
    return link.rsplit("/", 1)[-1]


class Tree:
    """The instance and project as nested dicts; a callable is worked out when it is read."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.preempted = False
        self.attributes: dict[str, str] = {}  # guest attributes, as the machine wrote them

    def read(self, path: str, query: dict[str, str]) -> tuple[str, str]:
        """(content type, body) for a path below ROOT; RefusedError when there is none."""
        node: Any = self._top()
        parts = [urllib.parse.unquote(part) for part in path.split("/") if part]
        directory = True
        for part in parts:
            if not directory or part not in node:
                raise RefusedError(404)
            node = node[part]
            if callable(node):
                node, directory = node(query), False
            else:
                directory = isinstance(node, dict)
        if directory and not path.endswith("/") and parts and not recursive(query):
            raise RefusedError(301, f"{ROOT}{path}/")
        return render(node, query)

    def _top(self) -> dict[str, Any]:
        instance = self.source.instance()
        project = self.source.project
        return {
            "instance": self._instance(instance),
            "oslogin": {
                "users": self._users,
                "authorize": self._authorize,
            },
            "project": {
                "attributes": {},
                "numeric-project-id": project.number,
                "project-id": project.project_id,
            },
        }

    def _instance(self, instance: dict[str, Any]) -> dict[str, Any]:
        number = self.source.project.number
        zone = basename(instance["zone"])
        items = instance.get("metadata", {}).get("items", [])
        scheduling = instance.get("scheduling", {})
        return {
            "attributes": {item["key"]: item.get("value", "") for item in items},
            "cpu-platform": instance.get("cpuPlatform", "Intel Sapphire Rapids"),
            "description": instance.get("description", ""),
            "disks": dict(enumerate_disks(instance)),
            "guest-attributes": self._guest_attributes(),
            "hostname": self.hostname(instance),
            "id": str(instance["id"]),
            "image": "",
            "machine-type": (f"projects/{number}/machineTypes/{basename(instance['machineType'])}"),
            "maintenance-event": "NONE",
            "name": instance["name"],
            "network-interfaces": dict(self._interfaces(instance)),
            "preempted": str(self.preempted).upper(),
            "scheduling": {
                "automatic-restart": str(scheduling.get("automaticRestart", True)).upper(),
                "on-host-maintenance": scheduling.get("onHostMaintenance", "MIGRATE"),
                "preemptible": str(scheduling.get("preemptible", False)).upper(),
            },
            "service-accounts": dict(self._accounts(instance)),
            "tags": instance.get("tags", {}).get("items", []),
            "zone": f"projects/{number}/zones/{zone}",
        }

    def hostname(self, instance: dict[str, Any]) -> str:
        zone = basename(instance["zone"])
        domain = f"{zone}.c.{self.source.project.project_id}.internal"
        return str(instance.get("hostname") or f"{instance['name']}.{domain}")

    def _guest_attributes(self) -> dict[str, Any]:
        spaces: dict[str, Any] = {}
        for name, value in self.attributes.items():
            space, key = name.split("/")
            spaces.setdefault(space, {})[key] = value
        return spaces

    def _interfaces(self, instance: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        number = self.source.project.number
        for index, nic in enumerate(instance.get("networkInterfaces", [])):
            access = {
                str(i): {"external-ip": config.get("natIP", ""), "type": "ONE_TO_ONE_NAT"}
                for i, config in enumerate(nic.get("accessConfigs", []))
            }
            network = basename(nic.get("network", "default"))
            yield (
                str(index),
                {
                    "access-configs": access,
                    "gateway": "10.128.0.1",
                    "ip": nic.get("networkIP", ""),
                    "mtu": "1460",
                    "network": f"projects/{number}/networks/{network}",
                    "subnetmask": "255.255.240.0",
                },
            )

    def _accounts(self, instance: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        for account in instance.get("serviceAccounts", [])[:1]:
            email = account["email"]
            entry = {
                "aliases": "default\n",
                "email": email,
                "identity": functools.partial(self._identity, email),
                "scopes": "".join(f"{scope}\n" for scope in account.get("scopes", [])),
                "token": functools.partial(self._token, email),
            }
            yield "default", entry
            yield email, entry

    def _token(self, email: str, query: dict[str, str]) -> dict[str, Any]:
        return {
            "access_token": self.source.token(email),
            "expires_in": TOKEN_LIFE_S,
            "token_type": "Bearer",
        }

    def _identity(self, email: str, query: dict[str, str]) -> str:
        if not query.get("audience"):
            raise RefusedError(400, "non-empty audience parameter required")
        return self.source.identity(email, query["audience"])

    def _users(self, query: dict[str, str]) -> str:
        return json.dumps({"loginProfiles": self.source.oslogin.profiles()})

    def _authorize(self, query: dict[str, str]) -> str:
        """Whether somebody may log in here (policy login), or become root (adminLogin)."""
        email, policy = query.get("email", ""), query.get("policy", "")
        return json.dumps({"success": self.source.oslogin.may(email, policy)})

    def write(self, path: str, value: str | None) -> None:
        """PUT or DELETE of guest-attributes/NS/KEY."""
        instance = self.source.instance()
        items = {i["key"]: i.get("value") for i in instance.get("metadata", {}).get("items", [])}
        parts = path.strip("/").split("/")
        if parts[:2] != ["instance", "guest-attributes"] or len(parts) != 4:
            raise RefusedError(405)
        if str(items.get("enable-guest-attributes")).upper() != "TRUE":
            raise RefusedError(403, "Guest attributes endpoint access is disabled.")
        if value is not None and len(value.encode()) > _ATTRIBUTE_LIMIT:
            raise RefusedError(400, "value too large")
        name = "/".join(parts[2:])
        if value is None:
            self.attributes.pop(name, None)
        else:
            self.attributes[name] = value
        self.source.attribute(name, value)


def enumerate_disks(instance: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for index, disk in enumerate(instance.get("disks", [])):
        yield (
            str(index),
            {
                "device-name": disk.get("deviceName", f"persistent-disk-{index}"),
                "index": str(index),
                "mode": disk.get("mode", "READ_WRITE"),
                "type": disk.get("type", "PERSISTENT"),
            },
        )


class Handler(BaseHTTPRequestHandler):
    """HTTP as the metadata server speaks it."""

    server_version = "Metadata Server for VM"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = 120.0
    tree: Tree

    def do_GET(self) -> None:
        self._answer(self._read)

    def do_HEAD(self) -> None:
        self._answer(self._read)

    def do_PUT(self) -> None:
        self._answer(self._write)

    def do_DELETE(self) -> None:
        self._answer(self._write)

    def do_POST(self) -> None:
        self._body()
        self._send(405, HTML, "")

    def _answer(self, work: Callable[[str, dict[str, str]], tuple[str, str]]) -> None:
        split = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(split.query, keep_blank_values=True))
        body = self._body()
        try:
            self._guard(split.path)
            if self.command in ("PUT", "DELETE"):
                query["body"] = body
            kind, text = work(split.path.removeprefix(ROOT), query)
            self._send(200, kind, text)
        except RefusedError as refusal:
            location = refusal.text if refusal.status == 301 else ""
            self._send(refusal.status, HTML, "" if location else refusal.text, location)

    def _guard(self, path: str) -> None:
        """Only a program that knows where it is, and no proxy, may ask."""
        if self.headers.get("X-Forwarded-For"):
            raise RefusedError(403, "Request with X-Forwarded-For header is forbidden.")
        if path == "/":
            return
        if not path.startswith(f"{ROOT}/"):
            raise RefusedError(404)
        if self.headers.get("Metadata-Flavor") != "Google":
            raise RefusedError(403, 'Missing required header "Metadata-Flavor": "Google"')

    def _read(self, path: str, query: dict[str, str]) -> tuple[str, str]:
        if path == "/":
            return "application/text", "computeMetadata/\n"
        if query.get("wait_for_change", "").lower() == "true":
            self._wait(path, query)
        return self.tree.read(path, query)

    def _wait(self, path: str, query: dict[str, str]) -> None:
        """Hold the answer until the value changes, or `timeout_sec` is over."""
        limit_s = min(float(query.get("timeout_sec") or _WAIT_LIMIT_S), _WAIT_LIMIT_S)
        deadline = time.monotonic() + limit_s
        before = self.tree.read(path, query)
        while time.monotonic() < deadline and self.tree.read(path, query) == before:
            time.sleep(_POLL_S)

    def _write(self, path: str, query: dict[str, str]) -> tuple[str, str]:
        self.tree.write(path, query["body"] if self.command == "PUT" else None)
        return "application/text", ""

    def _body(self) -> str:
        length = min(int(self.headers.get("Content-Length") or 0), 2 * _ATTRIBUTE_LIMIT)
        return self.rfile.read(length).decode(errors="replace")

    def _send(self, status: int, kind: str, text: str, location: str = "") -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-XSS-Protection", "0")
        self.send_header("X-Frame-Options", "SAMEORIGIN")
        if location:
            self.send_header("Location", location)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, handler: type[Handler]) -> None:
        HTTPServer.__init__(self, listener.getsockname(), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in mid-answer is no news."""


def serve(listener: socket.socket, tree: Tree) -> HTTPServer:
    """Answer on `listener` in a thread, until `shutdown` and `server_close`."""
    handler = type("BoundHandler", (Handler,), {"tree": tree})
    server = _Server(listener, handler)
    threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
    ).start()
    return server
