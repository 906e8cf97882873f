"""Stands in for gcloud: `compute ssh`, `compute scp` and `compute start-iap-tunnel`, no more.

Needs MAYFLY_LOCAL_DIR, the folder of a running local cloud. It asks the APIs for the VM, the
firewall and its own rights as a user would, and goes in through the machine's portal.
"""

import os
import sys
from pathlib import Path

from local.machine import gcloud_ssh, gcloud_tunnel
from local.machine.gcloud_cloud import Cloud
from local.machine.gcloud_words import HELP, RefusalError

VERBS = {"ssh": gcloud_ssh.ssh, "scp": gcloud_ssh.scp, "start-iap-tunnel": gcloud_tunnel.run}


def main(argv: list[str]) -> int:
    if argv == ["--version"]:
        print("Google Cloud SDK 526.0.1")
        return 0
    directory = os.environ.get("MAYFLY_LOCAL_DIR", "")
    if not (Path(directory) / "local.json").is_file():
        raise RefusalError(f"ERROR: no local cloud runs in {directory!r} (MAYFLY_LOCAL_DIR)")
    if argv[:1] != ["compute"] or argv[1:2] == [] or argv[1] not in VERBS:
        text = f"ERROR: (gcloud) Invalid choice: '{' '.join(argv[:2])}'."
        raise RefusalError(f"{text}\n\n{HELP}", 2)
    return VERBS[argv[1]](Cloud(Path(directory)), argv[2:])


def run() -> int:
    try:
        return main(sys.argv[1:])
    except RefusalError as refusal:
        print(refusal, file=sys.stderr)
        return refusal.status
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    status = run()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # threads may still carry bytes
