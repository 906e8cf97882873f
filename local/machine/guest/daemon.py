"""nvidia-persistenced and nvidia-fabricmanager: they hold the driver and want their version."""

import signal
import sys

import driver


def main() -> int:
    name, version, *only_check = sys.argv[1:]
    running = driver.loaded()["version"]
    if not running:
        print(f"{name}: failed to query the NVIDIA driver. Is the kernel module loaded?")
        return 1
    if name == "nvidia-fabricmanager" and running != version:
        print(
            f"fabric manager NVIDIA GPU driver interface version {version} don't match with driver "
            f"version {running}. Please update with matching NVIDIA driver package."
        )
        return 1
    if only_check:
        return 0
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    return 0


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    sys.exit(main())
