"""The engine's own KMS: reached by Google's name, refused in KMS's words, and nothing else."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from local.google_door import GoogleDoor
from local.rest.app import create_app
from local.rest.kms import Keys
from local.rest.world import World
from local.servers import Door, Server
from tests.provider.engine import find_engine

RINGS = "/kms/v1/projects/proj/locations/us-central1/keyRings"
KEY = "projects/proj/locations/us-central1/keyRings/mayfly/cryptoKeys/state"
LIMIT_S = 60


@pytest.fixture
def door(world: World, tmp_path: Path):
    """A KMS with one key, and the door to it."""
    http = Door("http")
    server = Server(create_app(world), http)
    client = create_app(world).test_client()
    signed = {"Authorization": "Bearer fake"}
    client.post(f"{RINGS}?keyRingId=mayfly", json={}, headers=signed)
    purpose = {"purpose": "ENCRYPT_DECRYPT"}
    client.post(f"{RINGS}/mayfly/cryptoKeys?cryptoKeyId=state", json=purpose, headers=signed)
    made = GoogleDoor(http.url, tmp_path / "google")
    yield made
    made.stop()
    server.stop()


@pytest.fixture
def pulumi(door: GoogleDoor, tmp_path: Path):
    """Runs the engine behind the door, its states in a folder."""
    project, states = tmp_path / "project", tmp_path / "states"
    for folder in (project, states):
        folder.mkdir()
    (project / "Pulumi.yaml").write_text("name: tiny\nruntime: yaml\n")
    environment = {
        **os.environ,
        **door.environment,
        "PULUMI_HOME": str(tmp_path / "home"),
        "PULUMI_BACKEND_URL": f"file://{states}",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(find_engine()), *words, "--non-interactive"],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )

    run.project = project
    return run


def test_engine_seals_and_opens_a_secret_when_its_key_is_in_kms(world: World, pulumi) -> None:
    """The data key is KMS's to open: what it sealed is nobody's without the right to decrypt."""
    made = pulumi("stack", "init", "dev", "--secrets-provider", f"gcpkms://{KEY}")
    pulumi("config", "set", "--secret", "word", "hidden", "--stack", "dev")
    opened = pulumi("config", "get", "word", "--stack", "dev")
    file = (pulumi.project / "Pulumi.dev.yaml").read_text()
    world.of(Keys).keys[KEY].resource["primary"]["state"] = "DISABLED"
    closed = pulumi("config", "get", "word", "--stack", "dev")

    assert made.returncode == 0, made.stderr
    assert opened.stdout.strip() == "hidden"
    assert "hidden" not in file
    assert closed.returncode != 0
    assert "is not enabled, current state is: DISABLED" in closed.stderr
    asked = [call["id"] for call in world.calls.report()["calls"]]
    assert "cloudkms.projects.locations.keyRings.cryptoKeys.decrypt" in asked


def test_engine_is_told_by_kms_when_there_is_no_such_key(pulumi) -> None:
    """A key that a typo names must not be found out at the first secret."""
    made = pulumi("stack", "init", "dev", "--secrets-provider", f"gcpkms://{KEY}x")

    assert made.returncode != 0
    assert f"CryptoKey {KEY}x not found" in made.stderr


def test_proxy_refuses_when_another_name_is_asked_for(door: GoogleDoor) -> None:
    """Nothing on the local cloud leaves loopback, whatever the engine or a provider looks up."""
    where = urlsplit(door.environment["HTTPS_PROXY"])

    answers = []
    for line in ("CONNECT api.pulumi.com:443", "GET http://example.com/"):
        with socket.create_connection((where.hostname, where.port), 5) as client:
            client.sendall(f"{line} HTTP/1.1\r\n\r\n".encode())
            answers.append(client.recv(100).split(b"\r\n")[0])

    assert answers == [b"HTTP/1.1 403 Forbidden"] * 2
