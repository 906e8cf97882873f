"""The two archives: what runs on the VM, and what runs as the reaper."""

import base64
import gzip
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile

import pulumi
import pytest

from components import reaper_source, startup_archive


def test_startup_archive_is_the_same_when_it_is_built_twice(tmp_path):
    """Other bytes would be other metadata: a change at every `up`, on every machine."""
    path = tmp_path / "a.sh"
    path.write_text("#!/bin/bash\n")
    first = startup_archive.build({"startup/a.sh": path})
    path.touch()
    path.chmod(0o600)

    assert startup_archive.build({"startup/a.sh": path}) == first


def test_startup_archive_keeps_names_modes_and_no_owner_when_it_is_unpacked():
    """Stages are run as programs; this machine's users mean nothing on the VM."""
    data = base64.b64decode(startup_archive.build(startup_archive.files("session")).text)

    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as tar:
        members = tar.getmembers()
    assert {(m.uid, m.gid, m.mtime) for m in members} == {(0, 0, 0)}
    assert {m.name.endswith(".sh") for m in members if m.mode == 0o755} == {True}
    assert [m.name for m in members] == sorted(m.name for m in members)


def test_startup_archive_is_refused_when_it_has_grown_too_large(tmp_path):
    """Google would refuse the VM, at the end of a long `up`, in words about metadata."""
    path = tmp_path / "noise"
    digests = (hashlib.sha512(str(i).encode()).digest() for i in range(1100))
    path.write_bytes(b"".join(digests))  # what gzip cannot shrink

    with pytest.raises(pulumi.RunError, match="65536 may travel in metadata"):
        startup_archive.build({"startup/noise": path})


def test_reaper_archive_holds_what_the_function_imports_when_it_starts(tmp_path):
    """A module that is missing here is a function that fails at every tick, unseen."""
    for name, path in reaper_source.files().items():
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    code = (
        "import sys, main, pathlib; here = str(pathlib.Path.cwd()); "
        "strangers = [n for n, m in list(sys.modules.items()) if n.split('.')[0] in ('mayfly', "
        "'reaper', 'main') and not str(m.__file__).startswith(here)]; "
        "assert callable(main.tick) and not strangers, strangers"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


def test_reaper_object_is_named_anew_when_a_file_changes(monkeypatch, tmp_path):
    """Functions does not redeploy what lies under an old name."""
    before = reaper_source.object_name()
    assert before == reaper_source.object_name()
    for folder in ("reaper", "mayfly"):
        shutil.copytree(reaper_source.ROOT / folder, tmp_path / folder)
    monkeypatch.setattr(reaper_source, "ROOT", tmp_path)
    assert before == reaper_source.object_name()

    (tmp_path / "mayfly/idle.py").write_text("# changed\n")

    assert before != reaper_source.object_name()


def test_reaper_archive_holds_no_path_of_this_machine_when_it_is_described():
    """State would differ from one checkout to the next."""
    paths = [asset.path for asset in reaper_source.archive().assets.values()]

    assert not [path for path in paths if path.startswith("/")]
