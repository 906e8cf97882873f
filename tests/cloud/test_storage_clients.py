"""Storage as its real clients use it: gsutil, Pulumi's gs:// backend, Google's Python client."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from local.exports import write_boto
from local.rest.app import create_app
from local.rest.world import World
from local.servers import Door, Server, self_signed
from local.tools_found import gsutil, pulumi
from tests.cloud.conftest import Api

MIB = 1024 * 1024
LIMIT_S = 90


@dataclass(frozen=True)
class Doors:
    """Where the app is served, and a folder for clients' files."""

    http: Door
    https: Door
    folder: Path
    environment: dict[str, str]

    def run(self, *words: str | Path) -> str:
        """A program's output; AssertionError with it when the program fails."""
        done = subprocess.run(
            [str(w) for w in words],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture
def doors(world: World, api: Api, stored: str, tmp_path: Path) -> Iterator[Doors]:
    api.post("/storage/v1/b?project=proj", {"name": "proj-one", "location": "us-central1"})
    app = create_app(world)
    user = world.identity.user
    http, https = Door("http", user), Door("https", user)
    servers = [Server(app, http), Server(app, https, self_signed(tmp_path / "tls"))]
    write_boto(tmp_path, port=https.port, project="proj")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "BOTO_CONFIG": str(tmp_path / "boto.cfg"),
        "STORAGE_EMULATOR_HOST": f"127.0.0.1:{http.port}",
        "GCE_METADATA_HOST": "127.0.0.1:9",
        "GOOGLE_OAUTH_ACCESS_TOKEN": "fake",
        "PULUMI_HOME": str(tmp_path / "pulumi"),
        "PULUMI_BACKEND_URL": "gs://proj-one",
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }
    yield Doors(http, https, tmp_path, environment)
    for server in servers:
        server.stop()


def test_gsutil_copies_a_tree_there_and_back_over_https(doors: Doors) -> None:
    """The node pulls its weights with this very program."""
    script = gsutil()
    assert script, "gsutil is brought by `make setup`"
    tree = doors.folder / "tree"
    (tree / "deep er").mkdir(parents=True)
    for name, size in (("small.json", 10), ("deep er/large.safetensors", 20 * MIB), ("empty", 0)):
        (tree / name).write_bytes(os.urandom(size))

    doors.run(script, "-m", "cp", "-r", tree, "gs://proj-one/models/")
    listed = doors.run(script, "ls", "-r", "gs://proj-one/models/**")
    (doors.folder / "back").mkdir()
    doors.run(script, "-m", "cp", "-r", "gs://proj-one/models/tree", doors.folder / "back")
    doors.run(script, "-m", "rm", "-r", "gs://proj-one/models/")

    assert len(listed.splitlines()) == 3
    for file in (f for f in tree.rglob("*") if f.is_file()):
        back = doors.folder / "back" / "tree" / file.relative_to(tree)
        assert back.read_bytes() == file.read_bytes(), file


def test_gsutil_creates_but_does_not_overwrite_when_it_is_told_so(doors: Doors) -> None:
    """How a node saves its kernel caches: of two, the first wins."""
    script = gsutil()
    assert script, "gsutil is brought by `make setup`"
    (doors.folder / "mine").write_text("mine")
    (doors.folder / "other").write_text("another")
    words = [script, "-q", "-h", "x-goog-if-generation-match:0", "cp"]

    doors.run(*words, "mine", "gs://proj-one/kernels/one.tar.gz")
    with pytest.raises(AssertionError, match="PreconditionException: 412"):
        doors.run(*words, "other", "gs://proj-one/kernels/one.tar.gz")

    assert doors.run(script, "cat", "gs://proj-one/kernels/one.tar.gz") == "mine"


def test_gsutil_fails_when_the_bucket_does_not_exist(doors: Doors) -> None:
    """A pull from nowhere must stop the start, not look done."""
    script = gsutil()
    assert script, "gsutil is brought by `make setup`"

    with pytest.raises(AssertionError, match=r"BucketNotFound|does not exist"):
        doors.run(script, "cp", "gs://proj-two/a", doors.folder)


def test_pulumi_keeps_a_stack_in_the_bucket_when_its_backend_is_gs(doors: Doors, api: Api) -> None:
    """State, locks and backups of every layer live here."""
    (doors.folder / "Pulumi.yaml").write_text("name: mayfly\nruntime: yaml\n")

    doors.run(pulumi(), "stack", "init", "dev", "--non-interactive")
    listed = doors.run(pulumi(), "stack", "ls", "--non-interactive")
    held = [o["name"] for o in api.get("/storage/v1/b/proj-one/o")[1]["items"]]
    doors.run(pulumi(), "stack", "rm", "dev", "--yes", "--non-interactive")
    left = [o["name"] for o in api.get("/storage/v1/b/proj-one/o")[1]["items"]]

    assert "dev" in listed
    assert ".pulumi/stacks/mayfly/dev.json" in held
    assert ".pulumi/stacks/mayfly/dev.json" not in left
    assert not [name for name in left if "/locks/" in name]


@pytest.mark.filterwarnings("ignore:Please install grpcio-status:ImportWarning")
def test_python_client_uploads_in_chunks_and_respects_generations(doors: Doors) -> None:
    """Google's own client: chunked resumable uploads, ranged reads, preconditions."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.exceptions import PreconditionFailed
    from google.cloud.storage import Client

    client = Client("proj", AnonymousCredentials(), client_options={"api_endpoint": doors.http.url})
    blob = client.bucket("proj-one").blob("folder/big", chunk_size=MIB)
    data = os.urandom(5 * MIB // 2)

    blob.upload_from_string(data, if_generation_match=0)
    with pytest.raises(PreconditionFailed):
        client.bucket("proj-one").blob("folder/big").upload_from_string(b"x", if_generation_match=0)

    assert client.bucket("proj-one").blob("folder/big").download_as_bytes() == data
    assert blob.download_as_bytes(start=10, end=19) == data[10:20]
    assert [b.name for b in client.list_blobs("proj-one", prefix="folder/")] == ["folder/big"]
    client.close()
