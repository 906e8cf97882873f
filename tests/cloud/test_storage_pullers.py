"""The node's pullers as they are, against storage that breaks: what they refuse, and what stays."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.exports import write_boto
from local.rest.app import create_app
from local.rest.world import World
from local.servers import Door, Server, self_signed
from local.tools_found import gsutil
from startup import manifest, pull, pull_large
from tests.cloud.conftest import Api

MIB = 1 << 20
SHARDS = {f"model-0000{n}-of-00003.safetensors": os.urandom(20 * MIB) for n in (1, 2, 3)}
SECOND = sorted(SHARDS)[1]
# gcloud is tried where it is; gsutil is brought by `make setup`.
PULLERS = ["gcloud", "gsutil"] if shutil.which("gcloud") else ["gsutil"]


def alone(folder: Path, name: str) -> str:
    """A PATH with one of the two, and what it needs to start."""
    programs = folder / "programs"
    programs.mkdir()
    for needed in ("sh", "dirname", "basename", "readlink", "sed", "ls", "expr", "uname", "env"):
        found = shutil.which(needed)
        assert found, needed
        (programs / needed).symlink_to(found)
    if name == "gsutil":
        script = gsutil()
        assert script, "gsutil is brought by `make setup`"
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
        (programs / name).chmod(0o755)
    else:
        found = shutil.which(name)
        assert found
        (programs / name).symlink_to(os.path.realpath(found))
    return str(programs)


@pytest.fixture
def place(
    world: World, api: Api, stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pull_large.Place]:
    """Three shards in a bucket behind the local cloud's doors, and a node's folders."""
    api.post("/storage/v1/b?project=proj", {"name": "proj-weights", "location": "us-central1"})
    app = create_app(world)
    user = world.identity.user
    http, https = Door("http", user), Door("https", user)
    write_boto(tmp_path, port=https.port, project="proj")
    for name, value in {
        "MAYFLY_ROOT": str(tmp_path / "root"),
        "MAYFLY_PROFILE": "kimi-k2.5",
        "HOME": str(tmp_path),
        "BOTO_CONFIG": str(tmp_path / "boto.cfg"),
        "GOOGLE_STORAGE_CUSTOM_ENDPOINT": f"http://127.0.0.1:{http.port}/storage/v1/",
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
        "CLOUDSDK_CORE_PROJECT": "proj",
    }.items():
        monkeypatch.setenv(name, value)
    for folder in ("run/mayfly", "var/log/mayfly"):
        (tmp_path / "root" / folder).mkdir(parents=True)
    for name, data in SHARDS.items():
        answer = api.client.post(
            f"/upload/storage/v1/b/proj-weights/o?uploadType=media&name=m/{name}",
            data=data,
            headers={"Authorization": "Bearer fake"},
        )
        assert answer.status_code == 200
    items = api.get("/storage/v1/b/proj-weights/o")[1]["items"]
    room = tmp_path / "root/mnt/mayfly"
    pins = {item["name"].removeprefix("m/"): str(item["generation"]) for item in items}
    pull.prepare(room, "a manifest")
    servers = [Server(app, http), Server(app, https, self_signed(tmp_path / "tls"))]
    yield pull_large.Place("gs://proj-weights/m", room, pins)
    for server in servers:
        server.stop()


@pytest.fixture(params=PULLERS)
def puller(request, tmp_path, monkeypatch) -> str:
    """The only one on this machine."""
    monkeypatch.setenv("PATH", alone(tmp_path, request.param))
    return str(request.param)


def large(place: pull_large.Place, names: list[str]) -> pull_large.Large:
    files = [manifest.File(name, len(SHARDS[name]), "", None) for name in names]
    return pull_large.Large(place, files, lambda _: None)


def there(place: pull_large.Place) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in place.weights.iterdir()}


def asked_for(api: Api) -> list[str]:
    """Objects whose content was sent, in order."""
    calls = api.get("/_local/calls")[1]["calls"]
    return [call["path"] for call in calls if "alt=media" in call["path"]]


@pytest.mark.timeout(240)
def test_puller_refuses_a_shard_when_one_bit_is_turned_on_its_way(place, api, puller):
    """The rest of the start trusts it: nothing reads 595 GB a second time."""
    api.fault("corrupted-content", where={"object": f"m/{SECOND}", "alt": "media"})

    with pytest.raises(
        pull_large.AgainError, match=f"1 files did not arrive, the first is {SECOND}"
    ):
        large(place, sorted(SHARDS)).run()

    assert there(place).keys() == SHARDS.keys() - {SECOND}
    before = len(asked_for(api))
    large(place, [SECOND]).run()
    assert there(place) == SHARDS
    assert all(SECOND in path for path in asked_for(api)[before:])


@pytest.mark.timeout(240)
def test_pull_stops_with_the_name_when_a_shard_is_wrong_twice(place, api, puller):
    """What lies in the bucket is broken; a third try costs minutes and brings the same."""
    api.fault("corrupted-content", where={"object": f"m/{SECOND}", "alt": "media"}, times=0)
    with pytest.raises(pull_large.AgainError):
        large(place, sorted(SHARDS)).run()

    with pytest.raises(
        pull_large.FinalError, match=f"wrong content twice in a row: {SECOND}; run: "
    ):
        large(place, [SECOND]).run()

    assert there(place).keys() == SHARDS.keys() - {SECOND}


@pytest.mark.timeout(240)
def test_puller_brings_nothing_when_the_object_is_another_than_was_listed(place, api, puller):
    """Whoever replaces an object between the listing and the pull must not be served."""
    other = {**place.pins, SECOND: "1"}
    changed = pull_large.Place(place.uri, place.room, other)

    with pytest.raises(
        pull_large.AgainError, match=f"1 files did not arrive, the first is {SECOND}"
    ):
        large(changed, sorted(SHARDS)).run()

    assert there(place).keys() == SHARDS.keys() - {SECOND}
