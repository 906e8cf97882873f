"""A model's files from the hub to the bucket, a few at a time, each checked, the manifest last.

`python -m startup.seed` in an environment with huggingface_hub. Safe to kill and start again at any
moment: a file that is in the bucket is not moved again. At most MAYFLY_DISK_GB lie on the disk at
once. On failure the last line says why, for the user.
"""

import os
import shutil
import sys
from collections.abc import Mapping

from startup import cloud, manifest, paths, words
from startup.seed_hub import Hub, explain
from startup.seed_transfer import Job, SeedError, Transfer
from startup.seed_upload import store


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
    transfer: Transfer | None = None

    def tell(note: str) -> None:
        print(note, flush=True) if note else None
        if transfer is None:
            words.set_message(note)
        else:
            transfer.note = note
            transfer.tell()

    hub = Hub(job, tell)
    transfer = Transfer(job, hub.files(), hub.fetch)
    text = manifest.whole(transfer.run(), f"{job.model}@{job.revision}")
    store(text.encode(), f"{job.uri}/manifest.json", {})
    return transfer.moved_bytes


def job_of(settings: Mapping[str, str]) -> Job:
    """What the settings ask for; the token by this VM's own rights, never by metadata or argv."""
    work = paths.root() / "var/cache/mayfly/hub"
    work.mkdir(parents=True, exist_ok=True)
    for torn in work.rglob("*.incomplete"):
        torn.unlink()  # of a run that was killed: the client begins such a file anew
    spare = shutil.disk_usage(work).free * 9 // 10
    secret = settings.get("MAYFLY_HF_TOKEN_SECRET", "")
    return Job(
        model=settings["MAYFLY_MODEL"],
        revision=settings["MAYFLY_REVISION"],
        uri=settings["MAYFLY_WEIGHTS_URI"],
        token=hub_token(secret),
        token_secret=secret,
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
            f"could not read the hub's token from {secret}: {error}. "
            "Run: pulumi up --stack foundation"
        ) from error


def why(error: Exception, job: Job) -> str:
    """One line for what stopped the seed."""
    if isinstance(error, SeedError):
        return str(error)
    if isinstance(error, cloud.CloudError):
        return f"could not look into {job.uri}: {error}. Run: pulumi up --stack foundation"
    return explain(error, job)


def main() -> int:
    try:
        job = job_of(os.environ)
    except SeedError as error:
        print(error)
        return 1
    try:
        moved = seed(job)
    except Exception as error:
        print(" ".join(why(error, job).split()), flush=True)
        # Other threads may be in the middle of gigabytes that nobody wants any more.
        os._exit(1)
    paths.write(paths.run_dir() / "bytes" / os.environ["MAYFLY_STAGE"], str(moved))
    return 0


if __name__ == "__main__":
    sys.exit(main())
