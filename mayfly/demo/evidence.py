"""What the demo claims, each claim read from the cloud and checked by name."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mayfly import ledger, names, vms
from mayfly.cloud import Cloud
from mayfly.errors import FailedError


class ClaimError(FailedError):
    """One claim of the story does not hold."""


def claim(name: str, holds: object, seen: object = "") -> None:
    """Raise ClaimError naming the claim unless it holds."""
    if not holds:
        raise ClaimError(
            f"The demo's check {name!r} failed: {seen}" if seen else f"{name!r} failed"
        )


@dataclass(frozen=True)
class Witness:
    """Reads evidence about one project."""

    cloud: Cloud
    state_bucket: str

    def vm(self, session: str) -> vms.Vm | None:
        """A session's VM; None when there is none."""
        return next((v for v in vms.all_of_ours(self.cloud) if v.session == session), None)

    def is_gone(self, vm: vms.Vm) -> bool:
        """Whether Compute no longer has it."""
        return self.cloud.compute.instance(vm.zone, vm.id) is None

    def resources(self, stack: str) -> list[str]:
        """The types of the resources in a stack's state, its own bookkeeping left out."""
        blob = self.cloud.storage.get(self.state_bucket, names.stack_state(stack))
        checkpoint = json.loads(blob.data)["checkpoint"] if blob else {}
        found = (checkpoint.get("latest") or {}).get("resources") or []
        return [r["type"] for r in found if not r["type"].startswith("pulumi:")]

    def history(self, stack: str) -> list[str]:
        """What was done to a stack, oldest first: "update", "destroy", ..."""
        prefix = f".pulumi/history/{names.PROJECT}/{stack}/"
        listed = sorted(o["name"] for o in self.cloud.storage.list(self.state_bucket, prefix))
        entries = [n for n in listed if n.endswith(".history.json")]
        blobs = [self.cloud.storage.get(self.state_bucket, name) for name in entries]
        return [str(json.loads(b.data)["kind"]) for b in blobs if b is not None]

    def left(self, session: str, vm: vms.Vm) -> list[str]:
        """What is left of a session: VMs and disks in Compute, resources in its state."""
        machines = [v.name for v in vms.all_of_ours(self.cloud) if v.session == session]
        disks = [d for d in self.disks() if d == vm.name or d.startswith(f"{vm.name}-")]
        return machines + [f"disk {d}" for d in disks] + self.resources(session)

    def disks(self) -> list[str]:
        """The names of the project's disks."""
        path = f"projects/{self.cloud.project}/aggregated/disks"
        scopes = self.cloud.ask("GET", "compute", path)["items"].values()
        return [str(d["name"]) for scope in scopes for d in scope.get("disks", [])]

    def record(self, vm: vms.Vm) -> ledger.Record | None:
        """The ledger's record of a VM's life; None when there is none yet."""
        name = names.ledger(vm.id)
        blob = self.cloud.storage.get(self.state_bucket, name)
        return ledger.from_json(blob.data, name) if blob else None

    def generation(self, stack: str) -> int:
        """Which version of a stack's state there is; 0 for none."""
        blob = self.cloud.storage.get(self.state_bucket, names.stack_state(stack))
        return blob.generation if blob else 0

    def foundation_problems(self, region: str) -> list[str]:
        """What a foundation has and this project lacks."""
        project, ask = self.cloud.project, self.cloud.ask
        function = f"projects/{project}/locations/{region}/functions/{names.REAPER}"
        secret = f"projects/{project}/secrets/{names.API_KEY_SECRET}"
        found = {
            f"bucket {kind}": ask("GET", "storage", f"b/{names.bucket(project, kind)}")
            for kind in ("weights", "cache", "source")
        }
        found["the reaper's function"] = ask("GET", "functions", function)
        found["the API key"] = self.cloud.secrets.access(secret)
        return [name for name, value in found.items() if not value]

    def weights_problems(self, uri: str) -> list[str]:
        """What the manifest at gs://BUCKET/PREFIX promises and the bucket does not hold."""
        bucket, _, prefix = uri.removeprefix("gs://").partition("/")
        blob = self.cloud.storage.get(bucket, f"{prefix}/{names.MANIFEST}")
        if blob is None:
            return [f"no {names.MANIFEST} in {uri}"]
        there = {o["name"]: o for o in self.cloud.storage.list(bucket, f"{prefix}/")}
        return list(_differences(json.loads(blob.data)["files"], there, prefix))


def _differences(
    files: list[dict[str, Any]], there: dict[str, dict[str, Any]], prefix: str
) -> Iterable[str]:
    for file in files:
        found = there.get(f"{prefix}/{file['name']}")
        if found is None:
            yield f"{file['name']} is missing"
        elif int(found["size"]) != file["size"] or found["crc32c"] != file["crc32c"]:
            yield f"{file['name']} differs"
    if sum(f["name"].endswith(".safetensors") for f in files) < 1:
        yield "no weights in the manifest"
