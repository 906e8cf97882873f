"""The two archives: what runs on the VM, and what runs as the reaper."""

import ast
import base64
import gzip
import hashlib
import io
import re
import shutil
import subprocess
import sys
import tarfile

import pulumi
import pytest

from components import reaper_source, startup_archive
from startup import run


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


LAYERS = ("session", "seed", "probe")
ROOM_BYTES = 6 * 1024
NAMED = re.compile(r"-m startup\.(\w+)|^source .*/([\w-]+\.sh)\"$", re.MULTILINE)


def started(name: str, text: str) -> set[str]:
    """The files of ours that this one imports, sources or starts."""
    if not name.endswith(".py"):
        found = {module or script for module, script in NAMED.findall(text)}
        return {f"startup/{n}" if n.endswith(".sh") else f"startup/{n}.py" for n in found}
    imported: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module in ("startup", "mayfly"):
            imported |= {f"{node.module}/{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("startup."):
            imported.add(str(node.module).replace(".", "/"))
    return {f"{path}.py" for path in imported if not path.startswith("startup/vllm_plugin")}


def missing(files: dict[str, str]) -> set[str]:
    return {want for name, text in files.items() for want in started(name, text)} - files.keys()


@pytest.mark.parametrize("layer", LAYERS)
def test_startup_archive_holds_all_that_its_files_start_and_has_room_left(layer):
    """What the other layer runs is left out: leaving out too much is seen on the VM, not before."""
    found = startup_archive.files(layer)
    files = {name: path.read_text() for name, path in found.items()}
    scripts = {f"startup/{stage.script}" for stage in run.LAYERS[layer]}

    assert missing(files | {"boot": startup_archive.BOOT.read_text()}) == set()
    assert scripts <= files.keys()
    size = len(base64.b64decode(startup_archive.build(found).text))
    assert size <= startup_archive.LIMIT_BYTES - ROOM_BYTES


def test_startup_archive_is_seen_to_lack_what_it_lacks():
    """The twin: a module, a program and a sourced script that are not there."""
    files = {
        "startup/a.py": "from startup import b\nfrom startup.c import d\n",
        "startup/e.sh": 'source "$(dirname "$0")/lib.sh"\npython3 -m startup.f\n',
    }

    assert missing(files) == {f"startup/{n}" for n in ("b.py", "c.py", "lib.sh", "f.py")}


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
