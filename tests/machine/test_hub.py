"""The hub is asked by the real huggingface_hub client, never by a client of our own."""

import os
import subprocess
import sys
import urllib.request

import huggingface_hub
import pytest
from huggingface_hub import HfApi, errors

from local import hub as hubs
from tests.running import running

COMMIT = "4d01dfe0332d63057c186e0b262165819efb6611"
NAME = "example/model"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with one repository of a small and a large file."""
    directory = tmp_path / "repo"
    (directory / "sub").mkdir(parents=True)
    (directory / "config.json").write_text("{}\n")
    (directory / "sub/part.safetensors").write_bytes(os.urandom(300_000))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    hub = hubs.Hub({NAME: hubs.Repo(directory, COMMIT)}, frozenset({"hf_good"}))
    hub.strangers = frozenset({"hf_stranger"})
    server = hubs.serve(hub)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    hub.directory = directory
    yield hub
    server.shutdown()
    server.server_close()


def download(hub, name, target, **options):
    return huggingface_hub.hf_hub_download(
        NAME, name, endpoint=hub.url, local_dir=target, revision=COMMIT, **options
    )


def test_hub_gives_the_whole_repository_to_snapshot_download(hub, tmp_path):
    """It is what the seeding VM does with 64 shards."""
    target = huggingface_hub.snapshot_download(
        NAME, endpoint=hub.url, revision=COMMIT, local_dir=tmp_path / "copy"
    )

    for name in ("config.json", "sub/part.safetensors"):
        with open(os.path.join(target, name), "rb") as copy:
            assert copy.read() == (hub.directory / name).read_bytes()


def test_hub_lists_sizes_and_sha256_when_asked_for_metadata(hub):
    """The manifest takes its checksums from here."""
    info = HfApi(endpoint=hub.url).model_info(NAME, revision="main", files_metadata=True)

    assert info.sha == COMMIT
    large = next(item for item in info.siblings if item.rfilename.endswith(".safetensors"))
    assert (large.size, len(large.lfs.sha256)) == (300_000, 64)


def test_hub_lists_its_tree_in_pages(hub):
    """A real repository has more files than one page."""
    for number in range(120):
        (hub.directory / f"extra-{number:03d}.txt").write_text(str(number))

    listed = list(HfApi(endpoint=hub.url).list_repo_tree(NAME, revision=COMMIT, recursive=True))

    assert len(listed) == 122


def test_hub_serves_a_range_when_a_download_goes_on(hub):
    """An interrupted 9 GB shard must not begin again."""
    oid = hub.repos[NAME].oid("sub/part.safetensors")
    request = urllib.request.Request(
        f"{hub.url}/cdn/{NAME}/{oid}", headers={"Range": "bytes=100-199"}
    )

    with urllib.request.urlopen(request) as answer:
        body, status = answer.read(), answer.status

    whole = (hub.directory / "sub/part.safetensors").read_bytes()
    assert (status, body) == (206, whole[100:200])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"revision": "0" * 40}, errors.RevisionNotFoundError),
        ({"repo_id": "example/other"}, errors.RepositoryNotFoundError),
        ({"filename": "nope.json"}, errors.EntryNotFoundError),
    ],
)
def test_hub_refuses_as_the_real_one_when_something_does_not_exist(hub, tmp_path, options, error):
    """The seed's messages are made from these errors."""
    request = {"repo_id": NAME, "filename": "config.json", "revision": COMMIT, **options}

    with pytest.raises(error):
        huggingface_hub.hf_hub_download(**request, endpoint=hub.url, local_dir=tmp_path / "copy")


@pytest.mark.parametrize("token", [False, "hf_stranger"])
def test_gated_repository_is_refused_when_the_token_is_not_on_the_list(hub, tmp_path, token):
    """Gated models are the common reason why a seed fails."""
    hub.repos[NAME].gated = True

    with pytest.raises(errors.GatedRepoError, match="restricted"):
        download(hub, "config.json", tmp_path / "copy", token=token)
    assert download(hub, "config.json", tmp_path / "copy", token="hf_good")


def test_hub_is_asked_again_when_it_says_429(hub):
    """A rate limit is no reason to give up 30 minutes of download."""
    hub.troubles.append(hubs.too_many(1))

    with pytest.raises(errors.HfHubHTTPError, match="429"):
        HfApi(endpoint=hub.url).model_info(NAME)
    assert HfApi(endpoint=hub.url).model_info(NAME).sha == COMMIT


@pytest.mark.parametrize("gated", [False, True])
def test_hub_refuses_a_token_that_is_none_when_no_token_is_needed(hub, tmp_path, gated):
    """The real one does: a revoked token closes even what is open to everybody."""
    hub.repos[NAME].gated = gated

    with pytest.raises(errors.HfHubHTTPError, match="Invalid credentials") as refused:
        download(hub, "config.json", tmp_path / "copy", token="hf_revoked")
    assert refused.value.response.status_code == 401
    assert not isinstance(refused.value, errors.RepositoryNotFoundError)


def test_hub_says_when_to_come_back_when_it_limits(hub):
    """By both headers that clients go by."""
    hub.troubles.append(hubs.too_many(55))

    with pytest.raises(errors.HfHubHTTPError, match="Retry after 55 seconds") as refused:
        HfApi(endpoint=hub.url).model_info(NAME)
    assert refused.value.response.headers["Retry-After"] == "55"


def test_hub_does_not_tell_a_private_repository_from_none_when_nobody_is_known(hub):
    """401 to a stranger, 404 to somebody; the client calls both "not found"."""
    for token, status in ((False, 401), ("hf_good", 404)):
        with pytest.raises(errors.RepositoryNotFoundError) as refused:
            HfApi(endpoint=hub.url).model_info("example/other", token=token)
        assert refused.value.response.status_code == status


def test_hub_process_says_where_it_is_and_ends_on_sigterm(hub):
    """The local cloud starts it as a process."""
    command = [sys.executable, "-m", "local.hub", "--repo", f"{NAME}@{COMMIT}={hub.directory}"]
    with running(command, stdout=subprocess.PIPE) as process:
        url = process.stdout.readline().strip()
        assert HfApi(endpoint=url).model_info(NAME).sha == COMMIT
        process.terminate()
        assert process.wait(60) == 0
