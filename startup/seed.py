"""A model's files from the hub to the bucket, a few at a time, each checked, the manifest last.

`python -m startup.seed` in an environment with huggingface_hub. Safe to stop and start again: a
file already in the bucket, with its size and the hub's own hash beside it, is not moved again. At
most MAYFLY_DISK_GB lie on the disk at once. On failure the last line says why, for the user.
"""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, errors, hf_hub_download

from startup import cloud, manifest, paths, words

SOURCE_KEY, SHA256_KEY = "mayfly-source", "mayfly-sha256"
UPLOAD_TRIES = 4
TELL_EVERY_S = 5.0
COUNT_EVERY_S = 1.0


class SeedError(Exception):
    """Why it cannot go on, in words for the user: what, and what to do."""


@dataclass(frozen=True)
class HubFile:
    """name: in the repository. size: bytes. source: "sha256:<hex>" or "git:<blob id>"."""

    name: str
    size: int
    source: str


@dataclass(frozen=True)
class Job:
    """What to bring where. token: False sends none, whatever lies on this machine."""

    model: str
    revision: str
    uri: str
    token: str | bool
    parallel: int
    room_bytes: int
    work: Path


class Room:
    """Bytes of disk that downloads may take together; each waits until its own fit."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._changed = threading.Condition()

    def take(self, size: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size

    def give(self, size: int) -> None:
        with self._changed:
            self._free += size
            self._changed.notify_all()


def hub_files(job: Job) -> list[HubFile]:
    """Every file of the revision. SeedError: the hub does not show it to us."""
    info = HfApi().model_info(
        job.model, revision=job.revision, files_metadata=True, token=job.token
    )
    if info.sha != job.revision:
        raise SeedError(
            f"{job.model} at {job.revision} is commit {info.sha}; pin that commit as `revision` "
            "in the profile, so that the weights cannot change under their name"
        )
    found = []
    for sibling in info.siblings or []:
        source = f"sha256:{sibling.lfs.sha256}" if sibling.lfs else f"git:{sibling.blob_id}"
        found.append(HubFile(sibling.rfilename, sibling.size or 0, source))
    if not found:
        raise SeedError(f"{job.model} at {job.revision} has no files; check `model` in the profile")
    return found


def digest_of(path: Path, file: HubFile) -> str | None:
    """The file's sha256; None when its content is not what the hub says."""
    if path.stat().st_size != file.size:
        return None
    digest = manifest.sha256(path)
    kind, _, wanted = file.source.partition(":")
    if kind == "sha256":
        return digest if digest == wanted else None
    # What is not in LFS is small, and git hashes it with a header.
    blob = hashlib.sha1(f"blob {file.size}\0".encode() + path.read_bytes())
    return digest if blob.hexdigest() == wanted else None


class Transfer:
    """Moves the files that are not in the bucket yet, and says how far it is."""

    def __init__(self, job: Job, files: list[HubFile]) -> None:
        self._job, self._files = job, files
        self._room = Room(job.room_bytes)
        self._lock = threading.Lock()
        self._digests: dict[str, tuple[int, str]] = {}
        self._moved = 0
        self._began = time.monotonic()

    def run(self) -> dict[str, tuple[int, str]]:
        """name -> (size, sha256) of all files, all of them in the bucket."""
        todo = self._not_there()
        largest = max((file.size for file in todo), default=0)
        if largest > self._job.room_bytes:
            raise SeedError(
                f"no room: the largest file has {largest / 1e9:.1f} GB, the disk "
                f"{self._job.room_bytes / 1e9:.1f} GB to spare; raise seeding.disk_gb"
            )
        pool = ThreadPoolExecutor(self._job.parallel)
        # Large ones first: the last to finish is then a small one.
        order = sorted(todo, key=lambda file: -file.size)
        waiting = {pool.submit(self._move, file) for file in order}
        with Ticker(self._job.work):
            while waiting:
                done, waiting = wait(waiting, TELL_EVERY_S, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
                self._tell()
        pool.shutdown()
        return self._digests

    def moved_bytes(self) -> int:
        return self._moved

    def _not_there(self) -> list[HubFile]:
        there = {item["name"]: item for item in cloud.list_objects(self._job.uri)}
        todo = []
        for file in self._files:
            item = there.get(file.name)
            told = item["metadata"] if item else {}
            if item and item["size"] == file.size and told.get(SOURCE_KEY) == file.source:
                self._digests[file.name] = (file.size, told[SHA256_KEY])
            else:
                todo.append(file)
        if len(todo) < len(self._files):
            print(f"{len(self._files) - len(todo)} of {len(self._files)} files are there already")
        return todo

    def _move(self, file: HubFile) -> None:
        self._room.take(file.size)
        try:
            path, digest = self._download(file)
            self._upload(path, file, digest)
            path.unlink()
        finally:
            self._room.give(file.size)
        with self._lock:
            self._digests[file.name] = (file.size, digest)
            self._moved += file.size

    def _download(self, file: HubFile) -> tuple[Path, str]:
        for again in (False, True):
            path = Path(
                hf_hub_download(
                    self._job.model,
                    file.name,
                    revision=self._job.revision,
                    local_dir=self._job.work,
                    token=self._job.token,
                    force_download=again,
                )
            )
            digest = digest_of(path, file)
            if digest is not None:
                return path, digest
            print(f"{file.name} is not what the hub says it is, once more", flush=True)
            path.unlink()
        raise SeedError(f"{file.name} came twice with another content than the hub's hash")

    def _upload(self, path: Path, file: HubFile, digest: str) -> None:
        command = ["gsutil", "-q", "-o", f"GSUtil:state_dir={paths.state_dir()}/gsutil"]
        command += ["-h", f"x-goog-meta-{SOURCE_KEY}:{file.source}"]
        command += ["-h", f"x-goog-meta-{SHA256_KEY}:{digest}"]
        command += ["cp", str(path), f"{self._job.uri}/{file.name}"]
        upload(command, self._job.uri)

    def _tell(self) -> None:
        sizes = sum(file.size for file in self._files)
        there = sum(size for size, _ in list(self._digests.values()))
        rate = self._moved / max(time.monotonic() - self._began, 0.1)
        text = f"{len(self._digests)} of {len(self._files)} files"
        if rate > 0:
            left_min = (sizes - there) / rate / 60
            text += f", {rate / 1e6:.0f} MB/s, {left_min:.0f} min left"
        words.set_message(text)


def upload(command: list[str], uri: str) -> None:
    """Run gsutil, again if it may help. SeedError with its last line."""
    said = ""
    for left in reversed(range(UPLOAD_TRIES)):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode == 0:
            return
        said = (done.stderr.strip().splitlines() or ["gsutil said nothing"])[-1]
        if "403" in said or "AccessDenied" in said:
            raise SeedError(
                f"no right to write {uri}: the seeder needs objectAdmin on the bucket; "
                "run: pulumi up --stack foundation"
            )
        if left:
            time.sleep(2.0 ** (UPLOAD_TRIES - left))
    raise SeedError(f"could not upload to {uri}: {said}")


class Ticker:
    """Writes a number that grows while bytes arrive: the watchdog's proof of work in progress."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._stop = threading.Event()

    def __enter__(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def _run(self) -> None:
        moved = before = 0
        while not self._stop.wait(COUNT_EVERY_S):
            now = size_below(self._work)
            if now != before:
                moved, before = moved + abs(now - before), now
                paths.write(paths.run_dir() / "progress", str(moved))


def size_below(folder: Path) -> int:
    """Bytes on the disk below a folder; files that vanish meanwhile count nothing."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                # Blocks, not length: a downloader may set the length first.
                total += os.lstat(os.path.join(where, name)).st_blocks * 512
            except OSError:
                continue
    return total


def is_complete(job: Job) -> bool:
    """A manifest is there, and every object still has its size and crc32c."""
    text = cloud.read_object(f"{job.uri}/manifest.json")
    if text is None:
        return False
    try:
        lines = list(manifest.changed(manifest.parse(text.decode()), job.uri))
    except (manifest.ManifestError, UnicodeDecodeError) as error:
        lines = [str(error)]
    for line in lines:
        print(f"seeding again, since {line}", flush=True)
    return not lines


def seed(job: Job) -> int:
    """Bring it all; the bytes moved. Nothing to do is 0."""
    if is_complete(job):
        print(f"{job.uri} is complete", flush=True)
        return 0
    transfer = Transfer(job, hub_files(job))
    digests = transfer.run()
    text = manifest.make(digests, job.uri, f"{job.model}@{job.revision}")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(text)
        file.flush()
        command = ["gsutil", "-q", "-o", f"GSUtil:state_dir={paths.state_dir()}/gsutil"]
        upload([*command, "cp", file.name, f"{job.uri}/manifest.json"], job.uri)
    return transfer.moved_bytes()


def job_of(settings: Mapping[str, str]) -> Job:
    """What the settings ask for; the token by this VM's own rights, never by metadata or argv."""
    work = paths.root() / "var/cache/mayfly/hub"
    work.mkdir(parents=True, exist_ok=True)
    spare = shutil.disk_usage(work).free * 9 // 10
    return Job(
        model=settings["MAYFLY_MODEL"],
        revision=settings["MAYFLY_REVISION"],
        uri=settings["MAYFLY_WEIGHTS_URI"],
        token=hub_token(settings.get("MAYFLY_HF_TOKEN_SECRET", "")),
        parallel=int(settings["MAYFLY_PARALLEL"]),
        room_bytes=min(int(float(settings["MAYFLY_DISK_GB"]) * 1e9), spare),
        work=work,
    )


def hub_token(secret: str) -> str | bool:
    """The token's text; False when none was ever stored, which public models need not."""
    if not secret:
        return False
    try:
        return cloud.secret(secret).strip() or False
    except cloud.CloudError as error:
        if error.status == 404:  # a secret without a version
            return False
        raise SeedError(
            f"could not read the hub's token from {secret}: {error}; run: mayfly init"
        ) from error


def explain(error: BaseException, job: Job) -> str:
    """The plain line for what the hub, the bucket or the disk said."""
    page = f"https://huggingface.co/{job.model}"
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{job.model} is gated: accept its licence at {page}, then set the token: mayfly init"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{job.model} has no revision {job.revision}; check the profile"
    if isinstance(error, errors.RepositoryNotFoundError):
        hint = "the token does not open it" if job.token else "it may be private and need a token"
        return f"the hub shows no model {job.model}: check its name ({hint}); token: mayfly init"
    if isinstance(error, errors.HfHubHTTPError):
        status = getattr(error.response, "status_code", None)
        if status == 401:
            return "the hub refuses the token; set a valid one: mayfly init"
        return f"the hub answers {status} for {job.model}; try again: mayfly seed"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "no room on the disk; raise seeding.disk_gb in the profile"
    if isinstance(error, cloud.CloudError) and error.status == 403:
        return f"no right to {job.uri}: run: pulumi up --stack foundation ({error})"
    return str(error) or repr(error)


def main() -> int:
    try:
        job = job_of(os.environ)
    except SeedError as error:
        print(error)
        return 1
    try:
        moved = seed(job)
    except Exception as error:
        print(" ".join(explain(error, job).split()), flush=True)
        # Other threads may be in the middle of gigabytes that nobody wants any more.
        os._exit(1)
    paths.write(paths.run_dir() / "bytes" / os.environ["MAYFLY_STAGE"], str(moved))
    return 0


if __name__ == "__main__":
    sys.exit(main())
