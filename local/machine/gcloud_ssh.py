"""The stand-in for `gcloud compute ssh` and `scp`: a key, OS Login, and the real ssh or scp.

The user's own ~/.ssh is never touched: keys and known hosts are in `ssh/` of the local cloud.
"""

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.machine.gcloud_cloud import USER, Cloud, openssh
from local.machine.gcloud_words import Grammar, RefusalError, Words
from local.machine.oslogin import PERMISSIONS, OsLogin

ROOT = Path(__file__).resolve().parents[2]
SSH = Grammar(
    "ssh",
    valued=("--command", "--strict-host-key-checking"),
    repeated=("--ssh-flag",),
    switches=("--dry-run",),
)
SCP = Grammar(
    "scp",
    valued=("--strict-host-key-checking",),
    repeated=("--scp-flag",),
    switches=("--recurse", "--compress"),
)
NO_KEY = (
    "WARNING: The private SSH key file for gcloud does not exist.\n"
    "WARNING: The public SSH key file for gcloud does not exist.\n"
    "WARNING: You do not have an SSH key for gcloud.\n"
    "WARNING: SSH keygen will be executed to generate a key."
)
NO_OS_LOGIN = "the local cloud's machines know OS Login only: set enable-oslogin=TRUE"


@dataclass(frozen=True)
class Target:
    """Whom to log in as, and where."""

    user: str
    alias: str
    options: list[str]

    @property
    def address(self) -> str:
        return f"{self.user}@{self.alias}"


def ssh(cloud: Cloud, argv: list[str]) -> int:
    """Exit status of the remote command; 255 when ssh itself fails."""
    words = SSH.parse(argv)
    if len(words.names) != 1:
        raise RefusalError(
            "ERROR: (gcloud.compute.ssh) argument [USER@]INSTANCE: Must be specified.", 2
        )
    target = prepare(cloud, words, words.names[0])
    command = words.options.get("--command", "")
    line = [str(openssh().client("ssh")), "-T" if command else "-t", *target.options]
    line += [word for flag in words.repeated.get("--ssh-flag", []) for word in flag.split()]
    line += [target.address, *words.rest]
    line += ["--", *command.split(" ")] if command else []
    if "--dry-run" in words.switches:
        print(" ".join(f'"{word}"' if " " in word else word for word in line))
        return 0
    return run(words, line)


def scp(cloud: Cloud, argv: list[str]) -> int:
    """Files one way; every source on one side, the target on the other."""
    words = SCP.parse(argv)
    if len(words.names) < 2:
        raise RefusalError(
            "ERROR: (gcloud.compute.scp) argument [[USER@]INSTANCE:]SRC [[[USER@]INSTANCE:]SRC ...]"
            " [[USER@]INSTANCE:]DEST: Must be specified.",
            2,
        )
    places = [remote(name) for name in words.names]
    machines = {place[0] for place in places if place}
    if not machines:
        raise RefusalError(
            "ERROR: (gcloud.compute.scp) Source(s) must be remote when destination "
            "is local, or the other way round."
        )
    if len(machines) > 1 or bool(places[-1]) == bool(places[0]):
        raise RefusalError(
            "ERROR: (gcloud.compute.scp) All sources must be local files when destination is "
            "remote, and all remote sources on one instance when it is local."
        )
    target = prepare(cloud, words, machines.pop())
    line = [str(openssh().client("scp"))]
    line += ["-r"] if "--recurse" in words.switches else []
    line += ["-C"] if "--compress" in words.switches else []
    line += [*target.options, *words.repeated.get("--scp-flag", [])]
    line += [
        f"{target.address}:{p[1]}" if p else n for p, n in zip(places, words.names, strict=True)
    ]
    return run(words, line)


def remote(name: str) -> tuple[str, str] | None:
    """(instance, path) of `INSTANCE:PATH`; None for a local file."""
    instance, colon, path = name.partition(":")
    return (instance, path) if colon and "/" not in instance else None


def prepare(cloud: Cloud, words: Words, host: str) -> Target:
    """Key, OS Login profile and ssh's options for one VM, which must exist."""
    words = Words(words.verb, [host], words.options, words.repeated, words.switches)
    instance = cloud.instance(words)
    folder = cloud.directory / "ssh"
    key = make_key(folder)
    user = log_in(cloud, words.option("--project"), instance, key.with_suffix(".pub"))
    if "--tunnel-through-iap" not in words.switches:
        nic = instance["networkInterfaces"][0]
        if nic.get("accessConfigs"):
            raise RefusalError(
                f"ssh: connect to host {nic['accessConfigs'][0].get('natIP')} port "
                "22: Connection timed out",
                255,
            )
        print(
            "External IP address was not found; defaulting to using IAP tunneling.",
            file=sys.stderr,
            flush=True,
        )
    alias = f"compute.{instance['id']}"
    return Target(
        user, alias, ["-i", str(key), *options(folder, alias, words), *proxy(cloud, words)]
    )


def options(folder: Path, alias: str, words: Words) -> list[str]:
    """gcloud's own, in its order."""
    known = folder / "google_compute_known_hosts"
    seen = known.exists() and f"{alias} " in known.read_text()
    values = {
        "CheckHostIP": "no",
        "HashKnownHosts": "no",
        "HostKeyAlias": alias,
        "IdentitiesOnly": "yes",
        "StrictHostKeyChecking": words.options.get(
            "--strict-host-key-checking", "yes" if seen else "no"
        ),
        "UserKnownHostsFile": str(known),
    }
    return [word for name, value in values.items() for word in ("-o", f"{name}={value}")]


def proxy(cloud: Cloud, words: Words) -> list[str]:
    """ssh starts a second gcloud, whose standard input and output are the line to port 22."""
    line = ["/usr/bin/env", f"PYTHONPATH={ROOT}", f"MAYFLY_LOCAL_DIR={cloud.directory}"]
    line += [sys.executable, "-P", "-m", "local.machine.gcloud", "compute", "start-iap-tunnel"]
    line += [words.names[0].rpartition("@")[2], "%p", "--listen-on-stdin"]
    line += [f"--project={words.option('--project')}", f"--zone={words.option('--zone')}"]
    text = " ".join(shlex.quote(word) for word in [*line, "--verbosity=warning"])
    return ["-o", f"ProxyCommand={text}", "-o", "ProxyUseFdpass=no"]


def make_key(folder: Path) -> Path:
    """gcloud's key pair, made at the first use."""
    key = folder / "google_compute_engine"
    if not key.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        print(NO_KEY, file=sys.stderr, flush=True)
        keygen = [str(openssh().client("ssh-keygen")), "-q", "-t", "ed25519", "-N", ""]
        scratch = folder / f".key-{os.getpid()}"
        subprocess.run([*keygen, "-f", str(scratch)], check=True, stdin=subprocess.DEVNULL)
        scratch.with_suffix(".pub").replace(key.with_suffix(".pub"))
        scratch.replace(key)
    return key


def log_in(cloud: Cloud, project: str, instance: dict[str, Any], public: Path) -> str:
    """The key into the caller's OS Login profile; the name they log in by."""
    items = instance.get("metadata", {}).get("items", [])
    if not any(i["key"] == "enable-oslogin" and i["value"].upper() == "TRUE" for i in items):
        raise RefusalError(f"ERROR: (gcloud.compute.ssh) {NO_OS_LOGIN}")
    held = cloud.permissions(project, list(PERMISSIONS.values()))
    return OsLogin(cloud.directory).import_key(USER, public.read_text().strip(), held)


def run(words: Words, line: list[str]) -> int:
    status = subprocess.call(line, env={**os.environ, **openssh().environment()})
    if status == 255:
        print(
            f"ERROR: (gcloud.compute.{words.verb}) [{line[0]}] exited with return code [255].",
            file=sys.stderr,
        )
    return status
