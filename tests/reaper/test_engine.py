"""Unpacking the engine: only what was checked, only what is needed, only whole."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mayfly.cloud import Cloud
from mayfly.errors import FailedError
from reaper.engine import unpack
from tests.reaper.google import Google
from tests.reaper.world import BUCKET, add_engine, tar_gz


def test_engine_is_unpacked_once_and_holds_three_programs(
    cloud: Cloud, google: Google, tmp_path: Path
):
    """A function instance lives for many runs: 500 MB are fetched when they change."""
    add_engine(google)

    first = unpack(cloud, BUCKET, tmp_path)
    asked = len(google.log)
    second = unpack(cloud, BUCKET, tmp_path)

    assert first == second
    assert len(google.log) == asked + 1
    assert sorted(path.name for path in first.iterdir()) == [
        "pulumi",
        "pulumi-resource-command",
        "pulumi-resource-gcp",
    ]
    assert all(path.stat().st_mode & 0o111 for path in first.iterdir())
    assert list(tmp_path.iterdir()) == [first], "archives and scratch folders are memory"


def test_engine_is_fetched_anew_when_the_manifest_changes(
    cloud: Cloud, google: Google, tmp_path: Path
):
    """Somebody brought another version: the next destroy uses it."""
    manifest = add_engine(google)
    first = unpack(cloud, BUCKET, tmp_path)
    google.put(BUCKET, "engine/manifest.json", {**manifest, "note": "newer"})

    assert unpack(cloud, BUCKET, tmp_path) != first


def other_archive(google: Google, _: dict[str, Any]) -> None:
    google.put(BUCKET, "engine/gcp.tar.gz", tar_gz({"pulumi-resource-gcp": "#!/bin/sh\nevil\n"}))


def no_archive(google: Google, _: dict[str, Any]) -> None:
    del google.objects[BUCKET, "engine/command.tar.gz"]


def no_manifest(google: Google, _: dict[str, Any]) -> None:
    del google.objects[BUCKET, "engine/manifest.json"]


def manifest_with(*path: str, value: Any) -> Callable[[Google, dict[str, Any]], None]:
    def change(google: Google, manifest: dict[str, Any]) -> None:
        changed = json.loads(json.dumps(manifest))
        place = changed
        for key in path[:-1]:
            place = place[int(key)] if key.isdigit() else place[key]
        place[path[-1]] = value
        google.put(BUCKET, "engine/manifest.json", changed)

    return change


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (other_archive, r"gcp\.tar\.gz has sha256 [0-9a-f]{64}, not [0-9a-f]{64}: it is not unp"),
        (no_archive, r"command\.tar\.gz is missing"),
        (no_manifest, r"engine/manifest\.json is missing: stacks cannot be destroyed"),
        (manifest_with("format", value=2), "format 2 is not 1"),
        (manifest_with("plugins", value="gcp"), "not understood"),
        (manifest_with("pulumi", "archive", value="../../x"), "not a plain file name"),
        (manifest_with("plugins", "0", "name", value="../x"), "not a plain file name"),
        (manifest_with("pulumi", "sha256", value="no"), "the sha256 of"),
        (manifest_with("plugins", "0", "name", value="aws"), "does not hold pulumi-resource-aws"),
    ],
)
def test_engine_is_refused_when_anything_is_not_as_the_manifest_says(
    cloud: Cloud,
    google: Google,
    tmp_path: Path,
    spoil: Callable[[Google, dict[str, Any]], None],
    complaint: str,
):
    """What runs with the right to delete VMs is exactly what was put there by its owner."""
    spoil(google, add_engine(google))

    with pytest.raises(FailedError, match=complaint):
        unpack(cloud, BUCKET, tmp_path)

    assert list(tmp_path.iterdir()) == [], "half an engine must not be found by the next run"


def test_engine_archive_that_is_no_archive_is_one_clear_error(
    cloud: Cloud, google: Google, tmp_path: Path
):
    """A proxy's error page, saved as a tar.gz."""
    manifest = add_engine(google)
    page = b"<html>"
    google.put(BUCKET, "engine/gcp.tar.gz", page)
    digest = hashlib.sha256(page).hexdigest()
    manifest_with("plugins", "0", "sha256", value=digest)(google, manifest)

    with pytest.raises(FailedError, match=r"gcp\.tar\.gz cannot be unpacked"):
        unpack(cloud, BUCKET, tmp_path)
