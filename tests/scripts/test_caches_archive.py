"""The archive of kernel caches: the same for the same kernels, and never a way onto the machine."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from startup import caches


def archive_of(*members):
    """A tar.gz of (TarInfo fields, data)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for fields, data in members:
            info = tarfile.TarInfo()
            for name, value in {"size": len(data), **fields}.items():
                setattr(info, name, value)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_archive_is_the_same_when_it_is_packed_twice(tmp_path):
    """Its name is its digest: two nodes that compiled alike save one object."""
    for name in ("b", "a"):
        (tmp_path / "caches/vllm" / name).mkdir(parents=True)
        path = tmp_path / "caches/vllm" / name / "kernel"
        path.write_text(name)
        os.utime(path, (5, 5))

    caches.pack(tmp_path / "caches", tmp_path / "one.tar.gz")
    caches.pack(tmp_path / "caches", tmp_path / "two.tar.gz")

    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()


def test_flags_are_alike_when_only_their_order_or_spelling_differs():
    """`--x 1` and `--x=1` are one flag to vLLM."""
    assert caches.flags_that_matter(["--b", "--a", "1"]) == ["--a=1", "--b"]
    assert caches.flags_that_matter(["--a=1", "--b"]) == ["--a=1", "--b"]


def test_setuid_bits_and_owners_are_dropped_when_an_archive_has_them(tmp_path):
    """What root unpacks must not become a way to root."""
    data = archive_of(({"name": "k", "mode": 0o6777, "uid": 4711, "gid": 4711}, b"x"))
    (tmp_path / "in.tar.gz").write_bytes(data)

    caches.unpack(tmp_path / "in.tar.gz", tmp_path / "out")

    found = (tmp_path / "out/k").stat()
    assert (found.st_mode & 0o7777, found.st_uid) == (0o755, os.getuid())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"not an archive",
        lambda data: archive_of(),
        lambda data: data[:40] + bytes([data[40] ^ 255]) + data[41:],
    ],
    ids=["truncated", "empty", "foreign", "no members", "one bit"],
)
def test_archive_is_refused_when_it_cannot_be_read(tmp_path, spoil):
    """Whatever lies in the bucket, the worst is a cold start."""
    bad = tmp_path / "bad.tar.gz"
    bad.write_bytes(spoil(archive_of(({"name": "triton/k"}, os.urandom(5000)))))

    with pytest.raises(caches.CachesError):
        caches.unpack(bad, tmp_path / "out")

    assert [p.name for p in tmp_path.iterdir()] == ["bad.tar.gz"]


def test_archive_is_refused_when_it_unpacks_to_more_than_is_kept(tmp_path, monkeypatch):
    """A few kilobytes can unpack to a full disk."""
    monkeypatch.setattr(caches, "MAX_BYTES", 1 << 20)
    bomb = archive_of(({"name": "k"}, bytes(600_000)), ({"name": "l"}, bytes(600_000)))
    (tmp_path / "bomb.tar.gz").write_bytes(bomb)

    with pytest.raises(caches.CachesError, match="more than is kept"):
        caches.unpack(tmp_path / "bomb.tar.gz", tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_archive_is_refused_when_its_headers_are_the_bomb(tmp_path, monkeypatch):
    """A member's headers are read into memory, whatever size they claim."""
    monkeypatch.setattr(caches, "MAX_BYTES", 1 << 20)
    monkeypatch.setattr(caches, "MAX_FILES", 10)
    (tmp_path / "bomb.tar.gz").write_bytes(archive_of(({"name": "x" * 3_000_000}, b"")))

    with pytest.raises(caches.CachesError, match="unpacks to more than"):
        caches.unpack(tmp_path / "bomb.tar.gz", tmp_path / "out")


def test_caches_are_not_packed_when_they_are_too_large(tmp_path, monkeypatch):
    """They would be refused on the way back."""
    monkeypatch.setattr(caches, "MAX_BYTES", 10)
    (tmp_path / "caches").mkdir()
    (tmp_path / "caches/k").write_bytes(bytes(11))

    with pytest.raises(caches.CachesError, match="more than is kept"):
        caches.pack(tmp_path / "caches", tmp_path / "out.tar.gz")

    assert not (tmp_path / "out.tar.gz").exists()


def test_caches_are_packed_when_systemd_has_moved_them(tmp_path):
    """DynamicUser=yes keeps the folder below private/ and leaves a link."""
    (tmp_path / "private/mayfly-vllm/triton").mkdir(parents=True)
    (tmp_path / "private/mayfly-vllm/triton/k").write_text("kernel")
    link = Path(tmp_path / "mayfly-vllm")
    link.symlink_to("private/mayfly-vllm")

    assert caches.pack(link, tmp_path / "out.tar.gz") == (1, 6)
