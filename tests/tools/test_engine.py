"""Where the Pulumi engine comes from: the user, the cache, the publisher, the compiler."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.running import running
from tests.waiting import wait_until
from tools import engine, golang
from tools.say import SetupError
from tools.store import Slot

VERSION = "v3.259.0"
ARCHIVE = "pulumi-v3.259.0-linux-x64.tar.gz"


def pulumi(machine, version: str) -> Path:
    return machine.program("pulumi", f"print('{version}')")


@contextmanager
def publisher(files: dict[str, bytes]) -> Iterator[str]:
    """A server with these files; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = files.get(self.path)
            self.send_response(200 if data is not None else 404)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def archive() -> bytes:
    """As the publisher packs it: the engine and a language host under pulumi/."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in ("pulumi/pulumi", "pulumi/pulumi-language-python"):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(name), 0o755
            tar.addfile(entry, io.BytesIO(name.encode()))
    return buffer.getvalue()


def release(data: bytes, digest: str = "") -> dict[str, bytes]:
    digest = digest or hashlib.sha256(data).hexdigest()
    sums = f"{digest}  {ARCHIVE}\n{'0' * 64}  another.tar.gz\n".encode()
    return {f"/{ARCHIVE}": data, f"/{VERSION}/pulumi-3.259.0-checksums.txt": sums}


@pytest.mark.parametrize("version", ["v3.259.0", "v3.260.1", "v4.0.0"])
def test_engine_is_the_users_own_when_it_is_new_enough(machine, version):
    """Nothing is fetched for who has it."""
    path = pulumi(machine, version)

    assert engine.find() == path
    assert not (machine.cache / "mayfly/pulumi").exists()


def test_engine_is_built_when_the_users_own_is_too_old(machine, go, capsys):
    """An old engine fails much later, over a feature that it does not know."""
    pulumi(machine, "v3.100.0")

    path = engine.find()

    assert path == Slot("pulumi", VERSION).program
    assert "is older than v3.259.0; not used" in capsys.readouterr().err


def test_engine_is_built_when_the_users_own_does_not_run(machine, go):
    """A `pulumi` for another processor is on PATH, too."""
    machine.program("pulumi", "sys.exit(1)")

    assert engine.find() == Slot("pulumi", VERSION).program


def test_engine_is_not_our_own_link_when_the_venv_is_on_path(machine, go, monkeypatch):
    """The link would keep itself alive, whatever version it once pointed at."""
    monkeypatch.setenv("PATH", f"{ROOT / '.venv/bin'}:{machine.bin}")

    assert engine.find() == Slot("pulumi", VERSION).program


def test_engine_is_not_our_own_link_when_the_checkout_has_two_names(
    machine, go, monkeypatch, tmp_path
):
    """A link that came to point at itself would break every later setup."""
    (tmp_path / "alias").symlink_to(ROOT)
    monkeypatch.setenv("PATH", f"{tmp_path / 'alias/.venv/bin'}:{machine.bin}")

    assert engine.find() == Slot("pulumi", VERSION).program


def test_engine_is_built_from_the_pinned_modules_when_there_is_no_download(machine, go, capsys):
    """The flags matter: without the version Pulumi refuses `requiredPulumiVersion`."""
    engine.find()

    _, (words, folder, environment) = machine.calls("go")
    assert folder == str(ROOT / "tools/pulumi")
    assert words[:2] == ["build", "-mod=readonly"]
    assert words[-1] == "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
    assert f"common/version.Version={VERSION}" in " ".join(words)
    assert environment == {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
    assert "building it, some 6 min on two cores" in capsys.readouterr().err


SLOW_GO = """
if sys.argv[1] == "version":
    print("go version go1.26.0 linux/amd64")
else:
    work = pathlib.Path(os.environ.get("GOTMPDIR") or os.environ["TMPDIR"], "go-build123")
    work.mkdir()
    (work / "object").write_text("gigabytes")
    import time
    time.sleep(60)
"""


def test_build_leaves_nothing_behind_when_it_is_interrupted(machine, tmp_path):
    """Ctrl-C after five minutes: what Go kept of them would stay in /tmp until somebody looks."""
    machine.program("go", SLOW_GO)
    (tmp_path / "tmp").mkdir()
    code = "from tools import engine, golang; from tools.store import Slot; "
    code += "Slot('pulumi', 'v1').fill(lambda f: golang.build('pulumi', 'p', f, []), 'long')"
    with running(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as setup:
        wait_until(lambda: list(tmp_path.rglob("go-build123/object")), 20)
        os.killpg(setup.pid, signal.SIGINT)
        assert setup.wait(60) != 0

    assert not list(tmp_path.rglob("go-build*"))
    assert not list((machine.cache / "mayfly/pulumi").glob(".v1-*"))


def test_engine_is_not_built_again_when_it_is_in_the_cache(machine, go):
    """Never twice on a machine."""
    engine.find()
    before = len(machine.calls("go"))

    engine.find()

    assert len(machine.calls("go")) == before


def test_engine_names_what_failed_when_the_build_does(machine):
    """The compiler's last lines, not ours about it."""
    machine.program(
        "go",
        "print('go version go1.26.0 x') if sys.argv[1] == 'version' else sys.exit('no space left')",
    )

    with pytest.raises(SetupError, match="no space left"):
        engine.find()
    assert not Slot("pulumi", VERSION).filled()


@pytest.mark.parametrize("data", [archive()], ids=["release"])
def test_engine_is_the_publishers_when_its_checksum_is_right(machine, tmp_path, data):
    """With its real language hosts beside it."""
    with publisher(release(data)) as address:
        engine.bring(tmp_path, address, address)

    assert (tmp_path / "pulumi").read_text() == "pulumi/pulumi"
    assert (tmp_path / "pulumi-language-python").exists()
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (release(archive(), "f" * 64), "is not what its publisher's checksums say"),
        ({}, "Not Found"),
        (release(b"not an archive"), "no download"),
    ],
    ids=["another checksum", "no such release", "no archive"],
)
def test_engine_is_built_when_the_download_is_not_right(machine, go, tmp_path, capsys, files, said):
    """What is not what it should be is not run."""
    folder = tmp_path / "engine"
    folder.mkdir()
    with publisher(files) as address:
        engine.bring(folder, address, address)

    assert said in capsys.readouterr().err
    assert (folder / "pulumi").read_text().startswith("#!/bin/sh")


def test_go_is_the_users_own_when_it_is_new_enough(machine, go):
    """Nothing is fetched for who has it."""
    assert golang.find() == go


@pytest.mark.parametrize("version", ["1.21.0", "1.25.9"])
def test_go_is_the_pinned_one_when_the_users_own_is_too_old(machine, builds, version):
    """An old go would try to download another, from a place that nobody pinned."""
    machine.program("go", builds.format(version=version))
    pinned = Slot("go", "1.26.6")
    pinned.folder.mkdir(parents=True)
    pinned.program.write_text("")
    pinned.program.chmod(0o755)

    assert golang.find() == pinned.program


def test_pins_agree_when_modules_and_code_name_a_version():
    """The cache would hold one version under another's name."""
    for tool, module, version in (
        ("pulumi", "github.com/pulumi/pulumi/pkg/v3", VERSION),
        ("pulumi", "github.com/pulumi/pulumi/sdk/v3", VERSION),
        ("fake-gcs-server", "github.com/fsouza/fake-gcs-server", "v1.55.1"),
        ("actionlint", "github.com/rhysd/actionlint", "v1.7.12"),
    ):
        lines = (ROOT / f"tools/{tool}/go.mod").read_text().splitlines()
        assert f"\t{module} {version} // indirect" in lines
    assert engine.VERSION == VERSION
