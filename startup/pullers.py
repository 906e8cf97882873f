"""The programs that pull large objects: `gcloud storage`, and gsutil, which always works.

Both read addresses from stdin, write under another name (`..._.gstmp`), compare what arrived with
the bucket's checksum, and only then give a file its own name. Which is the first and why:
docs/decisions/0005-puller.md.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from startup import paths

STREAMS = 64  # some 200 MB/s each at Google: more than the network card of any GPU machine takes
KILL_S = 10


@dataclass(frozen=True)
class Puller:
    """command: its last word, the folder that the files go to, is yet to come.

    goes_on: with a file that it brought half. gcloud does not really: it looks for the first zero
    byte in what is there, which weights have at once, and takes slices without one for longer ones.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    goes_on: bool


def available() -> list[Puller]:
    """Those that this machine has, the best first."""
    return [puller for puller in (gcloud(), gsutil()) if shutil.which(puller.command[0])]


def state_dir(name: str) -> Path:
    """Of this boot, as the half pulled files are whose places it notes; and of this stage: weights
    and engine come at the same time."""
    return paths.run_dir() / f"{name}-{os.environ.get('MAYFLY_STAGE', 'weights')}"


def gcloud() -> Puller:
    """One process a core: a thread more in one only waits for Python's lock."""
    environment = {
        "CLOUDSDK_CONFIG": str(state_dir("gcloud")),
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
        "CLOUDSDK_STORAGE_CHECK_HASHES": "always",
        "CLOUDSDK_STORAGE_PROCESS_COUNT": str(max(2, min(os.cpu_count() or 2, STREAMS))),
        "CLOUDSDK_STORAGE_THREAD_COUNT": "1",
        # Slices are held to crc32c while they arrive, a file in one piece to the slow md5. Sixteen
        # of a shard: few shards at once, so that they come in the order of their names.
        "CLOUDSDK_STORAGE_SLICED_OBJECT_DOWNLOAD_THRESHOLD": "16Mi",
        "CLOUDSDK_STORAGE_SLICED_OBJECT_DOWNLOAD_COMPONENT_SIZE": "16Mi",
        "CLOUDSDK_STORAGE_SLICED_OBJECT_DOWNLOAD_MAX_COMPONENTS": "16",
    }
    endpoint = os.environ.get("GOOGLE_STORAGE_CUSTOM_ENDPOINT")
    if endpoint:
        environment["CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE"] = endpoint
    command = ("gcloud", "storage", "cp", "--continue-on-error", "--read-paths-from-stdin")
    return Puller("gcloud storage", command, environment, goes_on=False)


def gsutil() -> Puller:
    options = {
        "state_dir": str(state_dir("gsutil")),
        "check_hashes": "always",
        "parallel_process_count": str(min(os.cpu_count() or 1, STREAMS)),
        "parallel_thread_count": "4",
    }
    words = [word for key, value in options.items() for word in ("-o", f"GSUtil:{key}={value}")]
    return Puller("gsutil", ("gsutil", "-q", "-m", *words, "cp", "-c", "-I"), {}, goes_on=True)


@contextlib.contextmanager
def started(
    puller: Puller, addresses: list[str], folder: Path, said: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """It runs inside the block, and none of its processes after it. said: takes what it prints.

    In a session of its own: its workers would outlive it when it is killed alone.
    """
    asked = said.with_suffix(".asked")
    asked.write_text("".join(f"{address}\n" for address in addresses), "utf-8")
    with asked.open("rb") as source, said.open("ab") as output:
        process = subprocess.Popen(
            [*puller.command, f"{folder}/"],
            stdin=source,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **puller.environment},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(KILL_S)


def main(folder: str) -> int:
    """`python3 -m startup.pullers FOLDER`: brings the addresses on stdin there, or exit 1."""
    addresses = sys.stdin.read().split()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    said = Path(f"{folder}.said")
    for puller in available():
        said.write_bytes(b"")
        with started(puller, addresses, Path(folder), said) as process:
            if process.wait() == 0:
                return 0
        print(f"{puller.name}: {' | '.join(paths.read(said).splitlines()[-3:])}", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
