"""Why a host cannot run machines, and what to do about it."""

import sys
from pathlib import Path

SWITCHES = (
    # (file, the value that forbids, the remedy)
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "sudo sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    ("/proc/sys/user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=15000"),
)


def explain(said: str) -> str:
    """What happened, what it means, what to do. `said`: the last words of a machine that failed."""
    if sys.platform != "linux":
        return (
            f"Machines need Linux; this is {sys.platform}.\n"
            "Nothing was started.\nTry: a Linux VM or container with user namespaces"
        )
    last = said.strip().splitlines()[-1:] or ["it said nothing"]
    for file, forbids, remedy in SWITCHES:
        path = Path(file)
        if path.exists() and path.read_text().strip() == forbids:
            return (
                f"This host does not let us make user namespaces ({path.name} = {forbids}).\n"
                f"Nothing was started: a machine needs one to be safe from the host.\nTry: {remedy}"
            )
    return (
        f"A machine does not start on this host: {last[0]}\n"
        "Nothing was started: machines need user, mount, pid and network namespaces.\n"
        "Try: outside this container, or with --security-opt seccomp=unconfined "
        "--security-opt systempaths=unconfined"
    )
