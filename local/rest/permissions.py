"""Which permissions each method needs, and on what: one row for every method that is served.

After Google's own tables ("Required permissions" of each REST method). A method without a row is
refused to everybody, and a test holds the table to be complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from local.rest.access import Resource

if TYPE_CHECKING:
    from local.rest.service import Call

Place = Callable[["Call"], Resource]
Asked = tuple[str, Resource]
Need = Callable[["Call"], Iterator[Asked]]
Rows = dict[str, tuple[Need, ...]]
FREE: tuple[Need, ...] = ()
"""Anybody with a token: the answer itself shows only what the caller may see."""


def named(kind: str, name: str, policy: str = "") -> Place:
    """A place from the path's variables. PROJECT and NUMBER stand for the local project's."""

    def place(call: Call) -> Resource:
        values = {"PROJECT": call.world.project, "NUMBER": call.world.project_number}
        values |= call.params
        return Resource(name.format_map(values), kind, policy.format_map(values))

    return place


def needs(permission: str, place: Place) -> Need:
    def need(call: Call) -> Iterator[Asked]:
        yield permission, place(call)

    return need


def rows(methods: str, permissions: str, place: Place, verbs: str) -> Rows:
    """`verbs`: "get patch:update" is get needing `.get` and patch needing `.update`, at `place`."""
    made: Rows = {}
    for word in verbs.split():
        verb, _, permission = word.partition(":")
        made[f"{methods}.{verb}"] = (needs(f"{permissions}.{permission or verb}", place),)
    return made


# -- places

PROJECT = named("cloudresourcemanager.googleapis.com/Project", "projects/{PROJECT}")
BUCKET = named(
    "storage.googleapis.com/Bucket", "projects/_/buckets/{bucket}", "projects/_/buckets/{bucket}"
)
_SECRET = "projects/{NUMBER}/secrets/{secretsId}"
SECRET = named("secretmanager.googleapis.com/Secret", _SECRET, _SECRET)
SECRET_VERSION = named(
    "secretmanager.googleapis.com/SecretVersion", _SECRET + "/versions/{versionsId}", _SECRET
)
_RING = "projects/{PROJECT}/locations/{locationsId}/keyRings/{keyRingsId}"
_KEY = _RING + "/cryptoKeys/{cryptoKeysId}"
RING = named("cloudkms.googleapis.com/KeyRing", _RING)
KEY = named("cloudkms.googleapis.com/CryptoKey", _KEY, _KEY)
KEY_VERSION = named(
    "cloudkms.googleapis.com/CryptoKeyVersion",
    _KEY + "/cryptoKeyVersions/{cryptoKeyVersionsId}",
    _KEY,
)
_FUNCTION = "projects/{PROJECT}/locations/{locationsId}/functions/{functionsId}"
FUNCTION = named("cloudfunctions.googleapis.com/Function", _FUNCTION, _FUNCTION)
_RUN = "projects/{PROJECT}/locations/{locationsId}/services/{servicesId}"
RUN = named("run.googleapis.com/Service", _RUN, _RUN)
JOB = named(
    "cloudscheduler.googleapis.com/Job", "projects/{PROJECT}/locations/{locationsId}/jobs/{jobsId}"
)
_ACCOUNT = "projects/{PROJECT}/serviceAccounts/{serviceAccountsId}"
ACCOUNT = named("iam.googleapis.com/ServiceAccount", _ACCOUNT, _ACCOUNT)
ROLE = named("iam.googleapis.com/Role", "projects/{PROJECT}/roles/{rolesId}")
BILLING = named("cloudbilling.googleapis.com/BillingAccount", "billingAccounts/{billingAccountsId}")


def compute(collection: str, variable: str, kind: str) -> Place:
    """One of compute's, where the path says; by the body's name when it is to be made."""

    def place(call: Call) -> Resource:
        name = call.params.get(variable) or call.body.get("name", "")
        return Resource(
            f"projects/{call['project']}/{_where(call)}/{collection}/{name}",
            f"compute.googleapis.com/{kind}",
        )

    return place


def _where(call: Call) -> str:
    for name in ("zone", "region"):
        if name in call.params:
            return f"{name}s/{call.params[name]}"
    return "global"


def account(email: str, project: str) -> Resource:
    """A service account by its address."""
    name = f"projects/{project}/serviceAccounts/{email.rsplit('/', 1)[-1]}"
    return Resource(name, "iam.googleapis.com/ServiceAccount", name)


# -- what depends on the body


def _act_as(*emails: Callable[[Call], list[str]]) -> Need:
    """Whoever makes something run as an account could do all that the account can."""

    def need(call: Call) -> Iterator[Asked]:
        for read in emails:
            for email in read(call):
                yield "iam.serviceAccounts.actAs", account(email, call.world.project)

    return need


def _vm_accounts(call: Call) -> list[str]:
    return [a["email"] for a in call.body.get("serviceAccounts", []) if a.get("email")]


def _function_accounts(call: Call) -> list[str]:
    """The one that it runs as and the one that builds it; Google's default where none is named."""
    default = f"{call.world.project_number}-compute@developer.gserviceaccount.com"
    running = call.body.get("serviceConfig", {}).get("serviceAccountEmail")
    building = call.body.get("buildConfig", {}).get("serviceAccount")
    return [running or default, building or default]


def _job_accounts(call: Call) -> list[str]:
    target = call.body.get("httpTarget", {})
    tokens = (target.get("oidcToken", {}), target.get("oauthToken", {}))
    return [t["serviceAccountEmail"] for t in tokens if t.get("serviceAccountEmail")]


def _new_vm(call: Call) -> Iterator[Asked]:
    """Each thing that a new VM has or uses is asked for by itself."""
    vm, body = INSTANCE(call), call.body
    yield "compute.instances.create", vm
    for field, permission in (
        ("metadata", "setMetadata"),
        ("tags", "setTags"),
        ("labels", "setLabels"),
        ("serviceAccounts", "setServiceAccount"),
    ):
        if body.get(field):
            yield f"compute.instances.{permission}", vm
    project = PROJECT(call)
    if any(disk.get("initializeParams") for disk in body.get("disks", [])):
        yield "compute.disks.create", project
    for interface in body.get("networkInterfaces", []):
        yield f"compute.{'subnetworks' if 'subnetwork' in interface else 'networks'}.use", project
        if interface.get("accessConfigs"):
            yield "compute.subnetworks.useExternalIp", project


def _own_image(verb: str) -> Need:
    """Google's images are everybody's."""

    def need(call: Call) -> Iterator[Asked]:
        if call["project"] in (call.world.project, call.world.project_number):
            yield f"compute.images.{verb}", compute("images", "image", "Image")(call)

    return need


INSTANCE = compute("instances", "instance", "Instance")
DISK = compute("disks", "disk", "Disk")
NETWORK = compute("networks", "network", "Network")
SUBNETWORK = compute("subnetworks", "subnetwork", "Subnetwork")
FIREWALL = compute("firewalls", "firewall", "Firewall")
ROUTER = compute("routers", "router", "Router")
ADDRESS = compute("addresses", "address", "Address")
OPERATION = compute("operations", "operation", "Operation")
LISTS = "list aggregatedList:list"
POLICY = "getIamPolicy setIamPolicy"

COMPUTE: Rows = {
    "compute.instances.insert": (_new_vm, _act_as(_vm_accounts)),
    **rows(
        "compute.instances",
        "compute.instances",
        INSTANCE,
        "get delete start stop reset getGuestAttributes getSerialPortOutput addAccessConfig "
        "deleteAccessConfig setDeletionProtection setDiskAutoDelete setLabels setMachineType "
        "setMetadata setScheduling setSecurityPolicy setTags updateShieldedInstanceConfig",
    ),
    "compute.instances.setServiceAccount": (
        needs("compute.instances.setServiceAccount", INSTANCE),
        _act_as(lambda call: [call.body["email"]] if call.body.get("email") else []),
    ),
    **rows("compute.disks", "compute.disks", DISK, "get insert:create delete resize setLabels"),
    **rows("compute.addresses", "compute.addresses", ADDRESS, "get insert:create delete setLabels"),
    **rows(
        "compute.networks", "compute.networks", NETWORK, "get insert:create delete patch:update"
    ),
    **rows(
        "compute.subnetworks",
        "compute.subnetworks",
        SUBNETWORK,
        "get insert:create delete patch:update setPrivateIpGoogleAccess",
    ),
    **rows(
        "compute.firewalls",
        "compute.firewalls",
        FIREWALL,
        "get insert:create delete patch:update update",
    ),
    **rows(
        "compute.routers", "compute.routers", ROUTER, "get insert:create delete patch:update update"
    ),
    **{
        method: made
        for kind in ("instances", "disks", "addresses", "subnetworks", "routers", "machineTypes")
        for method, made in rows(f"compute.{kind}", f"compute.{kind}", PROJECT, LISTS).items()
    },
    **{
        method: made
        for kind in ("networks", "firewalls", "regions", "zones")
        for method, made in rows(f"compute.{kind}", f"compute.{kind}", PROJECT, "list").items()
    },
    **{
        method: made
        for kind in ("zoneOperations", "regionOperations", "globalOperations")
        for place, verbs in ((OPERATION, "get delete wait:get"), (PROJECT, "list"))
        for method, made in rows(f"compute.{kind}", f"compute.{kind}", place, verbs).items()
    },
    **rows("compute.globalOperations", "compute.globalOperations", PROJECT, "aggregatedList:list"),
    **rows("compute.advice", "compute.advice", PROJECT, "capacity capacityHistory"),
    **rows("compute.projects", "compute.projects", PROJECT, "get setCommonInstanceMetadata"),
    **{
        f"compute.{kind}.get": (needs(f"compute.{kind}.get", PROJECT),)
        for kind in ("acceleratorTypes", "diskTypes", "machineTypes", "regions", "zones")
    },
    "compute.images.get": (_own_image("get"),),
    "compute.images.getFromFamily": (_own_image("getFromFamily"),),
    "compute.images.list": (_own_image("list"),),
}

STORAGE: Rows = {
    **rows("storage.buckets", "storage.buckets", PROJECT, "insert:create list"),
    **rows("storage.buckets", "storage.buckets", BUCKET, f"get delete {POLICY}"),
    "storage.buckets.patch": (needs("storage.buckets.update", BUCKET),),
    "storage.buckets.update": (needs("storage.buckets.update", BUCKET),),
    "storage.buckets.getStorageLayout": (needs("storage.objects.list", BUCKET),),
    "storage.buckets.testIamPermissions": FREE,
    **rows("storage.anywhereCaches", "storage.anywhereCaches", BUCKET, "list"),
    **rows("storage.rapidCaches", "storage.rapidCaches", BUCKET, "list"),
    "storage.projects.serviceAccount.get": (needs("resourcemanager.projects.get", PROJECT),),
}

_SECRETS, _VERSIONS = "secretmanager.projects.secrets", "secretmanager.projects.secrets.versions"
SECRETS: Rows = {
    **rows(_SECRETS, "secretmanager.secrets", PROJECT, "create list"),
    **rows(_SECRETS, "secretmanager.secrets", SECRET, f"get patch:update delete {POLICY}"),
    **rows(_SECRETS, "secretmanager.versions", SECRET, "addVersion:add"),
    **rows(_VERSIONS, "secretmanager.versions", SECRET, "list"),
    **rows(
        _VERSIONS, "secretmanager.versions", SECRET_VERSION, "get access enable disable destroy"
    ),
    f"{_SECRETS}.testIamPermissions": FREE,
}

_RINGS = "cloudkms.projects.locations.keyRings"
_KEYS, _KEY_VERSIONS = f"{_RINGS}.cryptoKeys", f"{_RINGS}.cryptoKeys.cryptoKeyVersions"
KMS: Rows = {
    **rows(_RINGS, "cloudkms.keyRings", PROJECT, "create list"),
    **rows(_RINGS, "cloudkms.keyRings", RING, "get"),
    **rows(_KEYS, "cloudkms.cryptoKeys", RING, "create list"),
    **rows(_KEYS, "cloudkms.cryptoKeys", KEY, f"get patch:update {POLICY}"),
    **rows(_KEYS, "cloudkms.cryptoKeyVersions", KEY, "encrypt:useToEncrypt decrypt:useToDecrypt"),
    **rows(_KEY_VERSIONS, "cloudkms.cryptoKeyVersions", KEY, "create list"),
    **rows(_KEY_VERSIONS, "cloudkms.cryptoKeyVersions", KEY_VERSION, "get destroy restore"),
    f"{_KEYS}.testIamPermissions": FREE,
}

_FUNCTIONS = "cloudfunctions.projects.locations.functions"
_SERVICES = "run.projects.locations.services"
_JOBS = "cloudscheduler.projects.locations.jobs"
SERVERLESS: Rows = {
    f"{_FUNCTIONS}.create": (
        needs("cloudfunctions.functions.create", PROJECT),
        _act_as(_function_accounts),
    ),
    f"{_FUNCTIONS}.patch": (
        needs("cloudfunctions.functions.update", FUNCTION),
        _act_as(_function_accounts),
    ),
    **rows(_FUNCTIONS, "cloudfunctions.functions", PROJECT, "list"),
    **rows(_FUNCTIONS, "cloudfunctions.functions", FUNCTION, f"get delete {POLICY}"),
    "cloudfunctions.projects.locations.operations.get": (
        needs("cloudfunctions.operations.get", PROJECT),
    ),
    **rows(_SERVICES, "run.services", PROJECT, "list"),
    **rows(_SERVICES, "run.services", RUN, f"get {POLICY}"),
    f"{_SERVICES}.testIamPermissions": FREE,
    f"{_JOBS}.create": (needs("cloudscheduler.jobs.create", PROJECT), _act_as(_job_accounts)),
    f"{_JOBS}.patch": (needs("cloudscheduler.jobs.update", JOB), _act_as(_job_accounts)),
    **rows(_JOBS, "cloudscheduler.jobs", PROJECT, "list"),
    **rows(_JOBS, "cloudscheduler.jobs", JOB, "get delete pause resume:enable run"),
}

_ACCOUNTS, _ROLES = "iam.projects.serviceAccounts", "iam.projects.roles"
_CRM = "cloudresourcemanager.projects"
_USAGE = "serviceusage.services"
_BUDGETS = "billingbudgets.billingAccounts.budgets"
_QUOTAS = "cloudquotas.projects.locations"
PROJECTS: Rows = {
    **rows(_ACCOUNTS, "iam.serviceAccounts", PROJECT, "create list"),
    **rows(
        _ACCOUNTS,
        "iam.serviceAccounts",
        ACCOUNT,
        f"get patch:update update delete enable disable {POLICY}",
    ),
    f"{_ACCOUNTS}.testIamPermissions": FREE,
    **rows(_ROLES, "iam.roles", PROJECT, "create list"),
    **rows(_ROLES, "iam.roles", ROLE, "get patch:update delete undelete"),
    **rows(_CRM, "resourcemanager.projects", PROJECT, f"get getAncestry:get {POLICY}"),
    f"{_CRM}.getEffectiveOrgPolicy": (needs("orgpolicy.policy.get", PROJECT),),
    f"{_CRM}.list": FREE,
    f"{_CRM}.testIamPermissions": FREE,
    **rows(
        _USAGE,
        "serviceusage.services",
        PROJECT,
        "get list enable disable batchGet:get batchEnable:enable",
    ),
    # The operation of whoever started it; its name tells nothing that could be checked.
    "serviceusage.operations.get": FREE,
    "cloudbilling.projects.getBillingInfo": (needs("resourcemanager.projects.get", PROJECT),),
    "cloudbilling.services.skus.list": FREE,
    "cloudbilling.billingAccounts.list": FREE,
    "cloudbilling.billingAccounts.get": (needs("billing.accounts.get", BILLING),),
    **rows(_BUDGETS, "billing.budgets", BILLING, "create list get delete patch:update"),
    **rows(
        f"{_QUOTAS}.quotaPreferences",
        "cloudquotas.quotas",
        PROJECT,
        "create:update patch:update get list:get",
    ),
    **rows(f"{_QUOTAS}.services.quotaInfos", "cloudquotas.quotas", PROJECT, "get list:get"),
}

ROWS: Mapping[str, tuple[Need, ...]] = COMPUTE | STORAGE | SECRETS | KMS | SERVERLESS | PROJECTS


def object_place(bucket: str, name: str) -> Resource:
    """An object, or with "" the bucket, as conditions see them."""
    own = f"projects/_/buckets/{bucket}"
    if not name:
        return Resource(own, "storage.googleapis.com/Bucket", own)
    return Resource(f"{own}/objects/{name}", "storage.googleapis.com/Object", own)
