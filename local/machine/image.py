"""What every machine of one local cloud is made with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from local.machine.openssh import OpenSsh


@dataclass(frozen=True, kw_only=True)
class Image:
    """What every machine of this local cloud is made with.

    project_id, project_number: whose machines they are.
    ports: host ports reachable inside at 127.0.0.1 (Google's APIs).
    internet_ports: those that only a machine with an external IP reaches (the hub).
    environment, internet_environment: variables of the image, for the same two kinds.
    storage_port: https port of the storage API for /etc/boto.cfg; 0 leaves gsutil unconfigured.
    gsutil: its script on the host; None where the host's PATH has one.
    ssh: the host's OpenSSH; None leaves port 22 closed.
    trees: further host directories shown read-only at their own paths.
    """

    project_id: str
    project_number: str
    ports: Sequence[int] = ()
    internet_ports: Sequence[int] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    internet_environment: Mapping[str, str] = field(default_factory=dict)
    storage_port: int = 0
    gsutil: Path | None = None
    ssh: OpenSsh | None = None
    trees: Sequence[Path] = ()
