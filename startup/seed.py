"""A model's files from the hub to the bucket, a few at a time, each checked, the manifest last.

`python -m startup.seed` in an environment with huggingface_hub. Safe to stop and start again: a
file that is in the bucket already is not moved again. At most MAYFLY_DISK_GB lie on the disk at
once. On failure the last line says why, for the user.
"""

import errno
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import HfApi, errors, hf_hub_download

from startup import cloud, manifest, paths
from startup.seed_transfer import PARTIAL, HubFile, Job, SeedError, Transfer, upload

# From a file or a prompt: a token in a command line is everybody's who can list processes.
NEW_TOKEN = (
    "gcloud secrets versions add SECRET --data-file=- "
    "(the SECRET that mayfly:hfTokenSecret of stack foundation names)"
)


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
    if any(file.name == "manifest.json" for file in found):
        raise SeedError(f"{job.model} has a manifest.json of its own, where ours must go")
    return found


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

    def fetch(file: HubFile, from_scratch: bool) -> Path:
        return Path(
            hf_hub_download(
                job.model,
                file.name,
                revision=job.revision,
                local_dir=job.work,
                token=job.token,
                force_download=from_scratch,
            )
        )

    transfer = Transfer(job, hub_files(job), fetch)
    entries = transfer.run()
    path = job.work / "manifest.json"
    path.write_text(manifest.whole(entries, f"{job.model}@{job.revision}"), "utf-8")
    upload([path], job.work, job.uri)
    cloud.delete_object(f"{job.uri}/{PARTIAL}")
    return transfer.moved_bytes


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
            f"could not read the hub's token from {secret}: {error}; "
            "run: pulumi up --stack foundation"
        ) from error


def explain(error: BaseException, job: Job) -> str:
    """The plain line for what the hub, the bucket or the disk said."""
    page = f"https://huggingface.co/{job.model}"
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{job.model} is gated: accept its licence at {page}, then give mayfly a token "
            f"that may read it: {NEW_TOKEN}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{job.model} has no revision {job.revision}; check the profile"
    if isinstance(error, errors.RepositoryNotFoundError):
        hint = "the token does not open it" if job.token else "it may be private and need a token"
        return f"the hub shows no model {job.model}: check its name ({hint}); a token: {NEW_TOKEN}"
    if isinstance(error, errors.HfHubHTTPError):
        status = getattr(error.response, "status_code", None)
        if status == 401:
            return f"the hub refuses the token; store a valid one: {NEW_TOKEN}"
        return f"the hub answers {status} for {job.model}; try again: mayfly seed PROFILE"
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
