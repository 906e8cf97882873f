"""What instances.insert and its relatives are sent."""

from __future__ import annotations

from .. import rest
from ..rest import Names
from ..same import relative
from ..schema import Field
from ..values import Object

AUTH = "https://www.googleapis.com/auth/"
SCOPES = {
    "bigquery": "bigquery",
    "cloud-platform": "cloud-platform",
    "cloud-source-repos": "source.full_control",
    "cloud-source-repos-ro": "source.read_only",
    "compute-ro": "compute.readonly",
    "compute-rw": "compute",
    "datastore": "datastore",
    "logging-write": "logging.write",
    "monitoring": "monitoring",
    "monitoring-read": "monitoring.read",
    "monitoring-write": "monitoring.write",
    "pubsub": "pubsub",
    "service-control": "servicecontrol",
    "service-management": "service.management.readonly",
    "sql": "sqlservice",
    "sql-admin": "sqlservice.admin",
    "storage-full": "devstorage.full_control",
    "storage-ro": "devstorage.read_only",
    "storage-rw": "devstorage.read_write",
    "taskqueue": "taskqueue",
    "trace": "trace.append",
    "useraccounts-ro": "cloud.useraccounts.readonly",
    "useraccounts-rw": "cloud.useraccounts",
    "userinfo-email": "userinfo.email",
}
DURATIONS = (
    "gracefulShutdown",
    "localSsdRecoveryTimeout",
    "maxRunDuration",
    "onInstanceStopAction",
    "preemptionNoticeDuration",
)


def scope(name: str) -> str:
    """The full address of an OAuth scope's short name."""
    return AUTH + SCOPES[name] if name in SCOPES else name


def service_accounts(given: Object | None) -> list[Object] | None:
    """The VM's identity."""
    if not given:
        return None
    scopes = [scope(name) for name in given["scopes"]]
    return [{"email": given.get("email") or "default", "scopes": scopes}]


def metadata(given: Object | None, startup_script: str | None) -> Object:
    """Metadata items, sorted by key."""
    items = dict(given or {})
    if startup_script:
        items["startup-script"] = startup_script
    if not items:
        return {}
    return {"items": [{"key": key, "value": items[key]} for key in sorted(items)]}


def scheduling(given: Object | None) -> Object:
    """How and how long the VM runs. What is not set goes as null, "" or [null]: Google tells
    these apart."""
    if given is None:
        return {"automaticRestart": True}
    body: Object = {
        "automaticRestart": given.get("automaticRestart") is not False,
        "preemptible": bool(given.get("preemptible")),
        "skipGuestOsShutdown": bool(given.get("skipGuestOsShutdown")),
        "hostErrorTimeoutSeconds": given.get("hostErrorTimeoutSeconds") or None,
        "nodeAffinities": [_affinity(entry) for entry in given.get("nodeAffinities") or []]
        or [None],
    }
    for key in ("onHostMaintenance", "provisioningModel", "instanceTerminationAction"):
        body[key] = given.get(key) or ""
    for key in DURATIONS:
        body[key] = _duration(given.get(key))
    for key in ("minNodeCpus", "availabilityDomain", "maintenanceInterval", "terminationTime"):
        if given.get(key):
            body[key] = given[key]
    return body


def _affinity(entry: Object) -> Object:
    return {key: entry[key] for key in ("key", "operator", "values")}


def _duration(value: Object | None) -> Object | None:
    if not value:
        return None
    kept = {key: entry for key, entry in value.items() if entry not in (None, 0, "")}
    if "maxDuration" in kept:
        kept["maxDuration"] = _duration(kept["maxDuration"])
    return kept


def boot_disk(item: Field, given: Object, names: Names, image: str | None) -> Object:
    """The first of `disks`."""
    disk: Object = {"boot": True, "mode": given.get("mode", "READ_WRITE")}
    if given.get("autoDelete") is not False:
        disk["autoDelete"] = True
    for key in ("deviceName", "interface", "forceAttach"):
        if given.get(key):
            disk[key] = given[key]
    if given.get("guestOsFeatures"):
        disk["guestOsFeatures"] = [{"type": name} for name in given["guestOsFeatures"]]
    if given.get("source"):
        disk["source"] = rest.link(item.children["source"], given["source"], names)
    if parameters := given.get("initializeParams"):
        field = item.children["initializeParams"]
        body = rest.body(field.children, parameters, names)
        if image:
            body["sourceImage"] = image
        if policies := parameters.get("resourcePolicies"):
            body["resourcePolicies"] = [policies]
        disk["initializeParams"] = body
    if given.get("kmsKeySelfLink"):
        disk["diskEncryptionKey"] = {"kmsKeyName": given["kmsKeySelfLink"]}
    return disk


def other_disks(inputs: Object, names: Names) -> list[Object]:
    """Local SSDs, then attached disks."""
    zone = f"projects/{names['project']}/zones/{names['zone']}"
    disks: list[Object] = [
        {
            "type": "SCRATCH",
            "autoDelete": True,
            "interface": entry["interface"],
            "diskSizeGb": str(entry.get("size", 375)),
            "initializeParams": {"diskType": f"{zone}/diskTypes/local-ssd"},
            **({"deviceName": entry["deviceName"]} if entry.get("deviceName") else {}),
        }
        for entry in inputs.get("scratchDisks") or []
    ]
    for entry in inputs.get("attachedDisks") or []:
        source = entry["source"]
        link = relative(source) if "/" in source else f"{zone}/disks/{source}"
        name = {"deviceName": entry["deviceName"]} if entry.get("deviceName") else {}
        disks.append({"source": link, "mode": entry.get("mode", "READ_WRITE"), **name})
    return disks


def network_interfaces(item: Field, given: list[Object], names: Names) -> list[Object]:
    """NICs; an access config is always a one-to-one NAT."""
    result = []
    for entry in given:
        project = entry.get("subnetworkProject") or names["project"]
        body: Object = rest.body(item.children, entry, names)
        if short := entry.get("subnetwork"):
            link = item.children["subnetwork"]
            body["subnetwork"] = rest.link(link, short, {**names, "project": project})
        if "accessConfigs" in entry:
            body["accessConfigs"] = [access_config(config) for config in entry["accessConfigs"]]
        result.append(body)
    return [{key: value for key, value in entry.items() if value != []} for entry in result]


def access_config(given: Object) -> Object:
    """An external address."""
    body: Object = {"type": "ONE_TO_ONE_NAT"}
    if given.get("natIp"):
        body["natIP"] = given["natIp"]
    if given.get("networkTier"):
        body["networkTier"] = given["networkTier"]
    if given.get("publicPtrDomainName"):
        body |= {"publicPtrDomainName": given["publicPtrDomainName"], "setPublicPtr": True}
    return body


def reservation_affinity(given: Object | None) -> Object | None:
    """Which reservation the VM may take its place in."""
    if not given:
        return None
    body: Object = {"consumeReservationType": given["type"]}
    if specific := given.get("specificReservation"):
        body |= {"key": specific["key"], "values": specific["values"]}
    return body


def without_none(body: Object) -> Object:
    """The body without parts that were not given."""
    return {key: value for key, value in body.items() if value is not None}
