"""Copies that go on where they ended: the same text at both ends of a pipe."""

import os
import threading
from pathlib import Path

import pytest

from mayfly.resume import BrokenError, receive, send


def copied(source: object, target: object, *, tear_after: int = -1) -> dict[str, int]:
    """One copy over two pipes; with tear_after, the line breaks after so many of its bytes."""
    to_far, from_near = os.pipe()
    to_near, from_far = os.pipe()
    failed: list[Exception] = []

    def far() -> None:
        with os.fdopen(to_far, "rb") as inp, os.fdopen(from_far, "wb") as out:
            try:
                receive(str(target), inp, out)
            except BrokenError as error:
                failed.append(error)

    thread = threading.Thread(target=far)
    thread.start()
    try:
        with os.fdopen(to_near, "rb") as inp, Line(from_near, tear_after) as out:
            told = send(str(source), inp, out)  # type: ignore[arg-type]
    finally:
        thread.join()
    if failed:
        raise failed[0]
    return told


class Line:
    """A pipe's end that may break after so many bytes."""

    def __init__(self, descriptor: int, tear_after: int) -> None:
        self._file, self._left = os.fdopen(descriptor, "wb"), tear_after

    def write(self, data: bytes) -> None:
        if 0 <= self._left < len(data):
            self._file.write(data[: self._left])
            raise BrokenPipeError("the line broke")
        self._left -= len(data) if self._left >= 0 else 0
        self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Some files, one of them large enough to break in the middle of."""
    made = tmp_path / "results"
    (made / "deep").mkdir(parents=True)
    (made / "a").write_text("content")
    (made / "deep/b c").write_bytes(os.urandom(3_000_000))
    (made / "empty").touch()
    (made / "run.sh").write_text("#!/bin/sh\n")
    (made / "run.sh").chmod(0o755)
    return made


def same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files, with the same modes."""
    looks = [
        {p.relative_to(top): (p.read_bytes(), p.stat().st_mode) for p in files(top)}
        for top in (one, other)
    ]
    return looks[0] == looks[1]


def files(top: Path) -> list[Path]:
    return [p for p in top.rglob("*") if p.is_file()]


def test_copy_goes_on_where_it_broke(folder, tmp_path):
    """An hour of results must not travel twice over a hotel's wifi."""
    with pytest.raises(BrokenPipeError):
        copied(folder, tmp_path / "back", tear_after=1_500_000)
    part = (tmp_path / "back/deep/b c").stat().st_size
    assert 0 < part < 3_000_000

    told = copied(folder, tmp_path / "back")

    assert same(folder, tmp_path / "back")
    assert told["continued"] == 1
    assert told["bytes"] < 3_000_000 - part + 100


def test_copy_sends_nothing_when_all_of_it_is_there(folder, tmp_path):
    """The second call is how one makes sure."""
    first = copied(folder, tmp_path / "back")
    again = copied(folder, tmp_path / "back")

    assert (first["files"], first["whole"]) == (4, 0)
    assert (again["whole"], again["bytes"]) == (3, 0)  # of an empty file there is nothing to have


@pytest.mark.parametrize("content", [b"CONTENT", b"cont", b"content and more", b"XX"])
def test_copy_is_the_senders_file_when_another_was_there(folder, tmp_path, content):
    """Neither glued to a stranger's beginning nor left with a stranger's end."""
    (tmp_path / "back").mkdir()
    (tmp_path / "back/a").write_bytes(content)

    copied(folder, tmp_path / "back")

    assert same(folder, tmp_path / "back")


@pytest.mark.parametrize(
    ("source", "target", "lands"),
    [
        ("results", "back", "back/a"),
        ("results", "there", "there/a"),
        ("results", "there/", "there/results/a"),
        ("results/a", "there", "there/a"),
        ("results/a", "copy", "copy"),
    ],
)
def test_copy_lands_where_its_words_say(folder, tmp_path, source, target, lands):
    """A folder named as the target is the copy itself, so that a second call goes on in it."""
    (tmp_path / "there").mkdir()

    copied(tmp_path / source, f"{tmp_path}/{target}")

    assert (tmp_path / lands).read_text() == "content"


@pytest.mark.parametrize("name", ["../out", "/etc/out", "a/../../out", ".."])
def test_receiver_refuses_a_name_that_leads_out_of_its_folder(tmp_path, name):
    """Whoever sits on the VM must not write into the user's home."""
    to_near, from_far = os.pipe()
    file = f'{{"path": "{name}", "size": 1, "mode": 420}}'
    told = f'{{"name": "x", "folder": true, "files": [{file}]}}\n'
    with os.fdopen(from_far, "wb") as far:
        far.write(told.encode())

    with os.fdopen(to_near, "rb") as inp, (tmp_path / "said").open("wb") as out:  # noqa: SIM117
        with pytest.raises(BrokenError, match="leads out of the folder"):
            receive(str(tmp_path / "here"), inp, out)

    assert not (tmp_path / "out").exists()
