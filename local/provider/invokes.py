"""The data sources that mayfly asks."""

from __future__ import annotations

import base64
import hashlib
import urllib.parse
from collections.abc import Callable

from . import rest
from .client import ApiError, Call, Client, TransportError
from .failures import FailedError, step
from .same import as_v1
from .schema import Field, load
from .values import Object, Secret


def invoke(client: Client, token: str, given: Object) -> Object:
    """The answer of a data source; unknown ones and unknown arguments are refused."""
    found = _FUNCTIONS.get(token)
    if found is None:
        raise FailedError(
            f"unrecognized data function (Invoke): {token}; the stand-in does not know it"
        )
    function, allowed = found
    arguments = {key: value for key, value in given.items() if value is not None}
    if unknown := sorted(set(arguments) - set(allowed)):
        raise FailedError(f'Invalid or unknown key: "{unknown[0]}"')
    if "zone" in allowed or "project" in allowed:
        arguments.setdefault("project", client.settings.project)
    return function(client, arguments)


def _project(client: Client, given: Object) -> Object:
    project = given.get("projectId") or client.settings.project
    if not project:
        raise FailedError(
            "no project value set. `project_id` must be set at the resource level, "
            "or a default `project` value must be specified on the provider"
        )
    with step(f'Error when reading or editing Project "{project}"'):
        found = client.call(Call("crm", "GET", f"projects/{project}", library=True))
        if found.get("lifecycleState") != "ACTIVE":
            raise FailedError(f"project {project} is not active: {found.get('lifecycleState')}")
        billing = client.call(
            Call("cloudbilling", "GET", f"projects/{project}/billingInfo", library=True)
        )
    parent = found.get("parent") or {}
    labels = found.get("labels") or {}
    account = billing.get("billingAccountName", "").removeprefix("billingAccounts/")
    return {
        "id": f"projects/{project}",
        "projectId": project,
        "number": str(found["projectNumber"]),
        "name": found.get("name", ""),
        "orgId": parent.get("id", "") if parent.get("type") == "organization" else "",
        "folderId": parent.get("id", "") if parent.get("type") == "folder" else "",
        "billingAccount": account,
        "labels": labels,
        "effectiveLabels": labels,
        "pulumiLabels": labels,
        "deletionPolicy": "PREVENT",
    }


_IMAGE = {
    "name": "name",
    "family": "family",
    "status": "status",
    "description": "description",
    "creationTimestamp": "creationTimestamp",
    "imageId": "id",
    "labelFingerprint": "labelFingerprint",
    "selfLink": "selfLink",
    "sourceDisk": "sourceDisk",
    "sourceDiskId": "sourceDiskId",
    "sourceImageId": "sourceImageId",
    "sourceDiskEncryptionKeySha256": "sourceDiskEncryptionKey.sha256",
    "imageEncryptionKeySha256": "imageEncryptionKey.sha256",
}


def _image(client: Client, given: Object) -> Object:
    chosen = [key for key in ("name", "family", "filter") if given.get(key)]
    if len(chosen) != 1:
        raise FailedError("exactly one of `family,filter,name` must be specified")
    path = f"projects/{given['project']}/global/images"
    with step("Error retrieving image information"):
        if chosen == ["filter"]:
            image = _newest(client, path, given)
        else:
            short = given["name"] if chosen == ["name"] else f"family/{given['family']}"
            image = client.call(Call("compute", "GET", f"{path}/{short}"))
    found = {key: as_v1(str(rest.pick(image, source) or "")) for key, source in _IMAGE.items()}
    return {
        **found,
        "id": f"projects/{given['project']}/global/images/{image['name']}",
        "project": given["project"],
        "diskSizeGb": int(image.get("diskSizeGb", 0)),
        "archiveSizeBytes": int(image.get("archiveSizeBytes", 0)),
        "licenses": image.get("licenses", []),
        "labels": image.get("labels") or {},
        "mostRecent": bool(given.get("mostRecent")),
    }


def _newest(client: Client, path: str, given: Object) -> Object:
    page = client.call(Call("compute", "GET", path, {"filter": given["filter"]}))
    images = sorted(page.get("items", []), key=lambda image: image["creationTimestamp"])
    if not images or (len(images) > 1 and not given.get("mostRecent")):
        raise FailedError(
            f"your filter has returned {len(images)} image(s); specify one, or most_recent"
        )
    return dict(images[-1])


def _instance_path(client: Client, given: Object) -> str:
    zone = given.get("zone") or client.settings.zone
    return f"projects/{given['project']}/zones/{zone}/instances/{given['name']}"


def _instance(client: Client, given: Object) -> Object:
    """The whole instance, every object as a list of one. One that is not there is an error that
    says so."""
    from .handlers.instance import Instance

    if link := given.get("selfLink"):
        parts = link.partition("/projects/")[2].split("/")
        given = {**given, "project": parts[0], "zone": parts[2], "name": parts[4]}
    table = load("gcp:compute/instance:Instance")
    assert table is not None
    instance = Instance(table, client)
    names = instance.names({key: value for key, value in given.items() if value})
    path = instance.path(names)
    with step(f'Error when reading or editing Instance "{path}"'):
        answer = instance.with_boot_disk(client.call(Call("compute", "GET", path)))
    state = instance.state(answer, {}, names)
    return {**_listed(table.fields, state), "id": path}


def _plural(name: str) -> str:
    if name.endswith("s"):
        return name
    return name[:-1] + "ies" if name.endswith("y") else f"{name}s"


def _listed(fields: dict[str, Field], values: Object) -> Object:
    """Values as a data source gives them: objects as lists, nothing secret, nothing left out."""
    result: Object = {}
    for name, value in values.items():
        item = fields.get(name, Field(name))
        plain = value.value if isinstance(value, Secret) else value
        if item.type == "object":
            result[_plural(name)] = [_listed(item.children, plain)] if plain else []
        elif item.children:
            result[name] = [_listed(item.children, entry) for entry in plain or []]
        elif name == "resourcePolicies":
            result[name] = [plain] if plain else []
        elif plain is None:
            empty = {"map": {}, "list": [], "set": []}
            result[name] = empty.get(item.type, item.zero)
        else:
            result[name] = plain
    return result


def _guest_attributes(client: Client, given: Object) -> Object:
    if given.get("queryPath") and given.get("variableKey"):
        raise FailedError('"query_path": conflicts with variable_key')
    path = _instance_path(client, given)
    with step(f'Error when reading or editing Instance Guest Attributes "{given["name"]}"'):
        client.call(Call("compute", "GET", path))
    asked = {key: given[key] for key in ("queryPath", "variableKey") if given.get(key)}
    found: Object = {}
    try:
        found = client.call(Call("compute", "GET", f"{path}/getGuestAttributes", asked))
    except (ApiError, TransportError):
        found = {}  # whatever it is, the real provider shows it as "nothing published"
    return {
        **asked,
        "id": as_v1(found.get("selfLink", "")) or "-",
        "name": given["name"],
        "zone": given.get("zone") or client.settings.zone,
        "queryValues": rest.pick(found, "queryValue.items") or [],
        "variableValue": found.get("variableValue", ""),
    }


_LISTED = ("contentType", "mediaLink", "name", "selfLink", "storageClass", "updated")


def _objects(client: Client, given: Object) -> Object:
    query = {key: given[key] for key in ("prefix", "matchGlob") if given.get(key)}
    found: list[Object] = []
    with step("Error retrieving storage bucket objects"):
        while True:
            page = client.call(Call("storage", "GET", f"b/{given['bucket']}/o", query))
            found += page.get("items", [])
            if not page.get("nextPageToken"):
                break
            query["pageToken"] = page["nextPageToken"]
    entries = [{key: entry.get(key, "") for key in _LISTED} for entry in found]
    return {**given, "id": given["bucket"], "bucketObjects": entries}


def _object_path(given: Object) -> str:
    return f"b/{given['bucket']}/o/{urllib.parse.quote_plus(given['name'])}"


def _object(client: Client, given: Object) -> Object:
    with step("Error retrieving storage bucket object"):
        found = client.call(Call("storage", "GET", _object_path(given)))
    keys = (
        "cacheControl",
        "contentDisposition",
        "contentEncoding",
        "contentLanguage",
        "contentType",
    )
    return {
        **given,
        **{
            key: found.get(key, "")
            for key in (*keys, "crc32c", "mediaLink", "selfLink", "storageClass")
        },
        "md5hash": found.get("md5Hash", ""),
        "generation": int(found.get("generation", 0)),
        "metadata": found.get("metadata") or {},
        "id": f"{given['bucket']}-{urllib.parse.quote_plus(given['name'])}",
    }


def _object_content(client: Client, given: Object) -> Object:
    with step("Error downloading storage bucket object"):
        call = Call("storage", "GET", _object_path(given), {"alt": "media"}, library=True, raw=True)
        data: bytes = client.call(call)
    digest = hashlib.sha512(data)
    return {
        "bucket": given["bucket"],
        "name": given["name"],
        "id": f"{given['bucket']}-{given['name']}",
        "content": data.decode(errors="replace"),
        "contentBase64": base64.b64encode(data).decode(),
        "contentBase64sha512": base64.b64encode(digest.digest()).decode(),
        "contentHexsha512": digest.hexdigest(),
    }


_Function = Callable[[Client, Object], Object]
_FUNCTIONS: dict[str, tuple[_Function, tuple[str, ...]]] = {
    "gcp:organizations/getProject:getProject": (_project, ("projectId",)),
    "gcp:compute/getImage:getImage": (
        _image,
        ("project", "name", "family", "filter", "mostRecent"),
    ),
    "gcp:compute/getInstance:getInstance": (_instance, ("name", "zone", "project", "selfLink")),
    "gcp:compute/getInstanceGuestAttributes:getInstanceGuestAttributes": (
        _guest_attributes,
        ("name", "zone", "region", "project", "queryPath", "variableKey"),
    ),
    "gcp:storage/getBucketObjects:getBucketObjects": (_objects, ("bucket", "prefix", "matchGlob")),
    "gcp:storage/getBucketObject:getBucketObject": (_object, ("bucket", "name")),
    "gcp:storage/getBucketObjectContent:getBucketObjectContent": (
        _object_content,
        ("bucket", "name", "content"),
    ),
}
