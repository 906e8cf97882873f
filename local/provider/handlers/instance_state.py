"""An instance and its boot disk as Pulumi's outputs."""

from __future__ import annotations

from typing import Any

from .. import rest
from ..rest import Names
from ..same import as_v1, last
from ..schema import Field
from ..values import Object, Secret


def metadata(answer: Object, given: Object) -> Object:
    """All metadata of the VM, without a startup script that the program gave apart."""
    items = {
        entry["key"]: entry.get("value", "") for entry in rest.pick(answer, "metadata.items") or []
    }
    script = None
    if given.get("metadataStartupScript"):
        script = items.pop("startup-script", None)
    return {"metadata": items or None, "metadataStartupScript": script}


def boot_disk(attached: Object, disk: Object, given: Object) -> Object:
    """The boot disk: how it is attached, and what it was made from."""
    parameters: Object = {
        "architecture": disk.get("architecture", ""),
        "enableConfidentialCompute": bool(disk.get("enableConfidentialCompute")),
        "image": as_v1(disk.get("sourceImage", "")),
        "labels": disk.get("labels") or {},
        "provisionedIops": int(disk.get("provisionedIops", 0)),
        "provisionedThroughput": int(disk.get("provisionedThroughput", 0)),
        "replicaZones": (given.get("initializeParams") or {}).get("replicaZones"),
        "resourceManagerTags": (given.get("initializeParams") or {}).get("resourceManagerTags"),
        "resourcePolicies": None,
        "size": int(disk.get("sizeGb", 0)),
        "snapshot": as_v1(disk.get("sourceSnapshot", "")),
        "sourceImageEncryptionKey": None,
        "sourceSnapshotEncryptionKey": None,
        "storagePool": disk.get("storagePool", ""),
        "type": last(disk.get("type", "")),
    }
    return {
        "autoDelete": bool(attached.get("autoDelete")),
        "deviceName": attached.get("deviceName", ""),
        "diskEncryptionKeyRaw": Secret(""),
        "diskEncryptionKeyRsa": Secret(""),
        "diskEncryptionKeySha256": "",
        "diskEncryptionServiceAccount": "",
        "forceAttach": bool(given.get("forceAttach")),
        "guestOsFeatures": [entry["type"] for entry in attached.get("guestOsFeatures", [])],
        "initializeParams": parameters,
        "interface": given.get("interface") or "",
        "kmsKeySelfLink": rest.pick(attached, "diskEncryptionKey.kmsKeyName") or "",
        "mode": attached.get("mode", ""),
        "source": as_v1(attached.get("source", "")),
    }


def scratch_disks(answer: Object) -> list[Object]:
    """Local SSDs."""
    return [
        {
            "deviceName": disk.get("deviceName", ""),
            "interface": disk.get("interface", ""),
            "size": int(disk.get("diskSizeGb", 375)),
        }
        for disk in answer.get("disks", [])
        if disk.get("type") == "SCRATCH"
    ]


def scheduling(item: Field, answer: Object, names: Names) -> Object:
    """Scheduling is always filled from the API; durations as numbers."""
    state = rest.state(item.children, answer.get("scheduling") or {}, {}, names)
    for key in ("maxRunDuration", "localSsdRecoveryTimeout", "preemptionNoticeDuration"):
        if value := state.get(key):
            state[key] = {"nanos": int(value.get("nanos") or 0), "seconds": int(value["seconds"])}
    return state


def service_account(answer: Object) -> Object | None:
    """The VM's identity."""
    accounts = answer.get("serviceAccounts") or []
    return {k: accounts[0].get(k) for k in ("email", "scopes")} if accounts else None


def network_interfaces(state: list[Object], given: Any) -> list[Object]:
    """NICs; the project of the subnetwork is part of its link."""
    before = given if isinstance(given, list) else []
    for index, entry in enumerate(state):
        own = before[index] if index < len(before) else {}
        link = entry.get("subnetwork") or ""
        entry["subnetworkProject"] = link.partition("/projects/")[2].partition("/")[0]
        entry["securityPolicy"] = own.get("securityPolicy") or ""
    return state


def reservation_affinity(answer: Object) -> Object | None:
    """Which reservation the VM may take its place in."""
    found = answer.get("reservationAffinity")
    if not found:
        return None
    specific = (
        {"key": found["key"], "values": found.get("values", [])} if found.get("key") else None
    )
    return {"specificReservation": specific, "type": found.get("consumeReservationType", "")}
