"""The hub, as huggingface_hub speaks to it: what a model holds, and its files, one at a time.

A hub that is busy (429, 5xx, no answer) is asked again: as soon as it says, or after a pause that
doubles, for fifteen minutes at most. Anything else is told in plain words.
"""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import httpx2
from huggingface_hub import HfApi, errors, hf_hub_download, set_client_factory

from startup.seed_transfer import HubFile, Job
from startup.seed_upload import SeedError

PATIENCE_S = 900.0
LONGEST_PAUSE_S = 60.0
ANSWER_S = 60.0
BUSY = (408, 429, 500, 502, 503, 504)
OS_ERROR_ENOSPC = f"os error {errno.ENOSPC}"
Found = TypeVar("Found")


class BusyError(Exception):
    """The hub would rather be asked later. wait_s: as it says itself; None if it does not."""

    def __init__(self, status: int, wait_s: float | None) -> None:
        super().__init__(f"the hub answers {status}")
        self.wait_s = wait_s


def _stop_when_busy(response: httpx2.Response) -> None:
    """Before huggingface_hub sleeps on its own, in silence and for as long as it is told."""
    if response.status_code in BUSY:
        raise BusyError(response.status_code, _told_to_wait_s(response.headers))


def _told_to_wait_s(headers: httpx2.Headers) -> float | None:
    """Seconds by `Retry-After: 30` or by `RateLimit: "api";r=0;t=30`."""
    words = dict(
        part.strip().partition("=")[::2] for part in headers.get("ratelimit", "").split(";")
    )
    for text in (headers.get("retry-after", ""), words.get("t", "")):
        if text.strip().isdigit():
            return float(text)
    return None


def _client() -> httpx2.Client:
    hooks = {"response": [_stop_when_busy]}
    return httpx2.Client(follow_redirects=True, timeout=ANSWER_S, event_hooks=hooks)


class Hub:
    """One model on the hub. tell: what the user reads while the hub lets us wait."""

    def __init__(
        self, job: Job, tell: Callable[[str], None], sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._job, self._tell, self._sleep = job, tell, sleep
        set_client_factory(_client)

    def files(self) -> list[HubFile]:
        """Every file of the revision. SeedError: the hub does not show it to us."""
        job = self._job
        info = self.patiently(
            lambda: HfApi().model_info(
                job.model, revision=job.revision, files_metadata=True, token=job.token
            )
        )
        if info.sha != job.revision:
            raise SeedError(
                f"{job.model} at {job.revision} is commit {info.sha}: the weights could change "
                f"under their name. Pin that commit as `revision` in profiles/{_profile()}.yaml"
            )
        found = []
        for sibling in info.siblings or []:
            source = f"sha256:{sibling.lfs.sha256}" if sibling.lfs else f"git:{sibling.blob_id}"
            found.append(HubFile(sibling.rfilename, sibling.size or 0, source))
        if not found:
            raise SeedError(
                f"{job.model} at {job.revision} has no files. "
                f"Check `model` in profiles/{_profile()}.yaml"
            )
        if any(file.name == "manifest.json" for file in found):
            raise SeedError(f"{job.model} has a manifest.json of its own, where ours must go")
        return found

    def fetch(self, file: HubFile, from_scratch: bool) -> Path:
        """The file on the disk, below the job's folder. SeedError: why it does not come."""
        job = self._job
        found = self.patiently(
            lambda: hf_hub_download(
                job.model,
                file.name,
                revision=job.revision,
                local_dir=job.work,
                token=job.token,
                force_download=from_scratch,
            )
        )
        return Path(found)

    def patiently(self, ask: Callable[[], Found]) -> Found:
        """What `ask` returns. Waits while the hub is busy; SeedError for all that will not pass."""
        waited_s, pause_s = 0.0, 1.0
        while True:
            try:
                return ask()
            except Exception as error:
                busy = passing(error)
                if busy is None:
                    raise SeedError(explain(error, self._job)) from error
                wait_s = pause_s if busy.wait_s is None else busy.wait_s
                if waited_s + wait_s > PATIENCE_S:
                    raise SeedError(
                        f"{busy} and wants {wait_s:.0f} s more after {waited_s:.0f} s of waiting. "
                        f"What is in the bucket stays there. Later, run: mayfly seed {_profile()}"
                    ) from error
            self._tell(f"{busy}; waiting {wait_s:.0f} s, as it is told")
            self._sleep(wait_s)
            self._tell("")
            waited_s, pause_s = waited_s + wait_s, min(2 * pause_s, LONGEST_PAUSE_S)


def passing(error: BaseException) -> BusyError | None:
    """The hub's wish to be asked later, if that is what is behind an error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BusyError):
            return cause
        if isinstance(cause, httpx2.TransportError):
            return _busy(f"the hub does not answer ({cause or type(cause).__name__})")
        cause = cause.__cause__
    if is_disk_full(error) or isinstance(error, errors.HfHubHTTPError):
        return None
    if isinstance(error, RuntimeError):  # hf_xet's, for whatever its storage said
        return _busy(f"the hub's storage fails ({error})")
    if isinstance(error, OSError) and "Consistency check failed" in str(error):
        return _busy("the hub sent less than a file")
    return None


def _busy(what: str) -> BusyError:
    error = BusyError(0, None)
    error.args = (what,)
    return error


def is_disk_full(error: BaseException) -> bool:
    """By Python's word for it, or by hf_xet's."""
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC
    return full or OS_ERROR_ENOSPC in str(error)


def explain(error: BaseException, job: Job) -> str:
    """The plain line for what the hub or the disk said: what, what it means, the command."""
    page, again = f"https://huggingface.co/{job.model}", f"mayfly seed {_profile()}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError) and job.token:
        said = " ".join((error.server_message or "").split())[:300]
        return (
            f"{job.model} is gated and the stored token may not read it (the hub: {said}). Ask for "
            f"access at {page} with the token's account, then run: {again}"
        )
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{job.model} is gated and there is no token. Accept its licence at {page}, "
            f"then store a token that may read it: {new_token(job)}; then run: {again}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"{job.model} has no revision {job.revision}. "
            f"Correct `revision` in profiles/{_profile()}.yaml, then run: {again}"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        why = "or the stored token does not open it" if job.token else "or it is private"
        return (
            f"the hub shows no model {job.model}: there is none, {why}. Correct `model` in "
            f"profiles/{_profile()}.yaml, or store a token that may read it: {new_token(job)}"
        )
    if status == 401:
        return (
            f"the hub refuses the token in {job.token_secret}: it is wrong or was revoked. "
            f"Store a valid one: {new_token(job)}; then run: {again}"
        )
    if isinstance(error, errors.HfHubHTTPError):
        said = " ".join((error.server_message or str(error)).split())[:300]
        return f"the hub answers {status} for {job.model}: {said}. Run again: {again}"
    if is_disk_full(error):
        return (
            f"the disk is full. Raise seeding.disk_gb in profiles/{_profile()}.yaml, then {again}"
        )
    return f"{type(error).__name__}: {error}. Run again: {again}"


def new_token(job: Job) -> str:
    """The commands that store one; it is typed or piped, for everybody can list processes."""
    if job.token_secret:
        _, project, _, name = job.token_secret.split("/")
        return f"gcloud secrets versions add {name} --project {project} --data-file=-"
    return (
        "gcloud secrets create mayfly-hf-token --data-file=- && pulumi config set "
        "mayfly:hfTokenSecret mayfly-hf-token --stack foundation && pulumi up --stack foundation"
    )


def _profile() -> str:
    return os.environ.get("MAYFLY_PROFILE", "PROFILE")
