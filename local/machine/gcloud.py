"""Stands in for gcloud: `compute ssh VM ... -- -N -L ...` and `compute start-iap-tunnel`, no more.

Needs MAYFLY_LOCAL_DIR, the folder of a running local cloud. It asks the Compute API for the VM and
the firewall as a user would, and goes in through the machine's portal.
"""

import contextlib
import json
import os
import re
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.machine import relay

IAP_RANGE = "35.235.240.0/20"
SSH_PORT = 22
_API_TIMEOUT_S = 10
_ALIVE_POLL_S = 0.5
_HELP = "To search the help text of gcloud commands, run:\n  gcloud help -- SEARCH_TERMS"
SWITCHES = ("--tunnel-through-iap", "--quiet", "-q")
VALUED = ("--zone", "--project", "--verbosity", "--account")
TUNNEL_VALUED = (*VALUED, "--local-host-port")
SSH_SWITCHES = ("-N", "-T", "-n", "-q", "-v")
SSH_OPTIONS = re.compile(
    r"(ExitOnForwardFailure|ServerAliveInterval|ServerAliveCountMax|StrictHostKeyChecking"
    r"|ConnectTimeout|LogLevel|UserKnownHostsFile|TCPKeepAlive|BatchMode)[= ].+"
)


class RefusalError(Exception):
    """Ends the program with a status, after the text on stderr."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


@dataclass
class Words:
    """A command line behind the verb."""

    verb: str
    names: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    switches: set[str] = field(default_factory=set)
    ssh: list[str] = field(default_factory=list)

    def option(self, name: str) -> str:
        if name not in self.options:
            raise RefusalError(
                f"ERROR: (gcloud.compute.{self.verb}) Underspecified resource "
                f"[{' '.join(self.names)}]. Specify the [{name}] flag."
            )
        return self.options[name]


def parse(verb: str, argv: list[str], valued: tuple[str, ...]) -> Words:
    """Strict, as gcloud: an unknown flag ends it with status 2."""
    words = Words(verb)
    if "--" in argv:
        at = argv.index("--")
        argv, words.ssh = argv[:at], argv[at + 1 :]
    rest, unknown = list(argv), []
    while rest:
        word = rest.pop(0)
        key, equals, value = word.partition("=")
        if key in valued and (equals or rest):
            words.options[key] = value if equals else rest.pop(0)
        elif word in SWITCHES:
            words.switches.add(word)
        elif word.startswith("-"):
            unknown.append(word)
        else:
            words.names.append(word)
    if unknown:
        raise RefusalError(
            f"ERROR: (gcloud.compute.{verb}) unrecognized arguments: "
            f"{' '.join(unknown)} \n\n{_HELP}",
            2,
        )
    return words


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
        request = urllib.request.Request(
            f"{self.api}/compute/v1/{path}", headers={"Authorization": f"Bearer {self.token}"}
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
        if found["status"] != "RUNNING":
            raise unreachable(words.verb, "4047: 'Failed to lookup instance'")
        return found

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


def unreachable(verb: str, why: str) -> RefusalError:
    """What the tunnel says when IAP cannot reach the VM, and ssh after it."""
    text = f"ERROR: (gcloud.compute.start-iap-tunnel) Error while connecting [{why}]."
    if verb != "ssh":
        return RefusalError(text)
    return RefusalError(
        f"{text}\nkex_exchange_identification: Connection closed by remote host\n"
        "Connection closed by UNKNOWN port 65535\n\n"
        "ERROR: (gcloud.compute.ssh) [/usr/bin/ssh] exited with return code [255].",
        255,
    )


@dataclass(frozen=True)
class Forward:
    """-L LOCAL:HOST:PORT."""

    local: int
    host: str
    port: int


def ssh_words(argv: list[str]) -> list[Forward]:
    """What ssh is told. Only forwards without a shell are known here."""
    forwards, quiet, rest = [], False, list(argv)
    while rest:
        word = rest.pop(0)
        if word in SSH_SWITCHES:
            quiet = quiet or word == "-N"
        elif word == "-L" and rest:
            forwards.append(forward(rest.pop(0)))
        elif word == "-o" and rest:
            option = rest.pop(0)
            if not SSH_OPTIONS.fullmatch(option):
                raise RefusalError(
                    f"command-line: line 0: Bad configuration option: {option.lower()}", 255
                )
        else:
            raise RefusalError(
                f"unknown option -- {word.lstrip('-')}\nusage: ssh [-46AaCfGg...]", 255
            )
    if not quiet:
        raise RefusalError("ssh: this gcloud opens no shell: -N is missing", 255)
    return forwards


def forward(text: str) -> Forward:
    match = re.fullmatch(r"(?:(?:localhost|127\.0\.0\.1):)?(\d+):([\w.-]+):(\d+)", text)
    if match is None:
        raise RefusalError(f"Bad local forwarding specification '{text}'", 255)
    return Forward(int(match[1]), match[2], int(match[3]))


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


def ssh(cloud: Cloud, argv: list[str]) -> int:
    """Keeps the forwards open until it is ended or the VM is gone."""
    words = parse("ssh", argv, VALUED)
    if len(words.names) != 1:
        raise RefusalError(
            "ERROR: (gcloud.compute.ssh) argument [USER@]INSTANCE: Must be specified.", 2
        )
    forwards = ssh_words(words.ssh)
    instance = cloud.instance(words)
    if "--tunnel-through-iap" not in words.switches:
        raise RefusalError(
            f"ssh: connect to host {instance['networkInterfaces'][0].get('networkIP')} port 22: "
            "Connection timed out\n\nERROR: (gcloud.compute.ssh) [/usr/bin/ssh] exited with return "
            "code [255].",
            255,
        )
    if not cloud.allows(words.options["--project"], instance, SSH_PORT):
        raise unreachable("ssh", "4003: 'failed to connect to backend'")
    portal = Portal(cloud.directory, str(instance["id"]))
    listeners = [listen(item.local) for item in forwards]
    for item, listener in zip(forwards, listeners, strict=True):
        relay.serve(listener, lambda connection, item=item: carry(portal, item, connection))
    wait_while_alive(portal)
    print(f"Connection to compute.{instance['id']} closed by remote host.", file=sys.stderr)
    return 255


def carry(portal: Portal, item: Forward, connection: socket.socket) -> None:
    """One forwarded connection; sshd would dial `host` from the VM."""
    local = item.host in ("localhost", "127.0.0.1")
    target = portal.connect(f"{item.port}") if local else "Name or service not known"
    if isinstance(target, str):
        print(f"channel 2: open failed: connect failed: {target}", file=sys.stderr, flush=True)
        connection.close()
        return
    relay.join(connection, target)


def listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        raise RefusalError(
            f"bind [127.0.0.1]:{port}: {error.strerror}\n"
            f"channel_setup_fwd_listener_tcpip: cannot listen to port: {port}\n"
            "Could not request local forwarding.",
            255,
        ) from error
    listener.listen(64)
    return listener


def wait_while_alive(portal: Portal) -> None:
    while portal.alive():
        time.sleep(_ALIVE_POLL_S)


def start_iap_tunnel(cloud: Cloud, argv: list[str]) -> int:
    """A port of the VM's own address, as far as IAP gets: nothing that listens on loopback."""
    words = parse("start-iap-tunnel", argv, TUNNEL_VALUED)
    if len(words.names) != 2 or not words.names[1].isdigit():
        raise RefusalError(
            "ERROR: (gcloud.compute.start-iap-tunnel) argument INSTANCE_NAME INSTANCE_PORT: Must "
            "be specified.",
            2,
        )
    port = int(words.names[1])
    instance = cloud.instance(words)
    portal = Portal(cloud.directory, str(instance["id"]))
    print("Testing if tunnel connection works.", file=sys.stderr, flush=True)
    probe = portal.connect(f"nic:{port}")
    if isinstance(probe, str) or not cloud.allows(words.options["--project"], instance, port):
        why = "4003: 'failed to connect to backend'"
        raise RefusalError(f"{unreachable('tunnel', why)} (Failed to connect to port {port})")
    probe.close()
    local = int(words.options.get("--local-host-port", "localhost:0").rpartition(":")[2])
    listener = listen(local)
    relay.serve(listener, lambda connection: nic_carry(portal, port, connection))
    print(f"Listening on port [{listener.getsockname()[1]}].", file=sys.stderr, flush=True)
    wait_while_alive(portal)
    return 1


def nic_carry(portal: Portal, port: int, connection: socket.socket) -> None:
    target = portal.connect(f"nic:{port}")
    if isinstance(target, str):
        connection.close()
    else:
        relay.join(connection, target)


VERBS = {"ssh": ssh, "start-iap-tunnel": start_iap_tunnel}


def main(argv: list[str]) -> int:
    if argv == ["--version"]:
        print("Google Cloud SDK 526.0.1")
        return 0
    directory = os.environ.get("MAYFLY_LOCAL_DIR", "")
    if not (Path(directory) / "local.json").is_file():
        raise RefusalError(f"ERROR: no local cloud runs in {directory!r} (MAYFLY_LOCAL_DIR)")
    if argv[:1] != ["compute"] or argv[1:2] == [] or argv[1] not in VERBS:
        text = f"ERROR: (gcloud) Invalid choice: '{' '.join(argv[:2])}'."
        raise RefusalError(f"{text}\n\n{_HELP}", 2)
    return VERBS[argv[1]](Cloud(Path(directory)), argv[2:])


def run() -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: os._exit(255))
    try:
        return main(sys.argv[1:])
    except RefusalError as refusal:
        print(refusal, file=sys.stderr)
        return refusal.status
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    status = run()
    sys.stderr.flush()
    os._exit(status)  # threads may still carry bytes
