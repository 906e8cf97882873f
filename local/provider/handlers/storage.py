"""Buckets and objects."""

from __future__ import annotations

import base64
import binascii
import json
import mimetypes
import secrets
import urllib.parse
from typing import Any

from .. import assets, rest
from ..change import Change, plan
from ..client import ApiError, Call
from ..failures import FailedError, step
from ..operations import is_missing
from ..resource import Resource
from ..rest import Names
from ..values import Object, Secret

STATES = {"LIVE": True, "ARCHIVED": False}
ZERO_SENT = {
    "age": "sendAgeIfZero",
    "numNewerVersions": "sendNumNewerVersionsIfZero",
    "daysSinceNoncurrentTime": "sendDaysSinceNoncurrentTimeIfZero",
    "daysSinceCustomTime": "sendDaysSinceCustomTimeIfZero",
}


class Storage(Resource):
    """Calls of the storage client."""

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        return self.client.call(
            Call(self.table.service, method, path, body=body, library=True, **options)
        )


class Bucket(Storage):
    """A bucket; only what changed is patched."""

    def create(self, inputs: Object) -> tuple[str, Object]:
        names = self.names(inputs)
        query = {"project": names["project"]}
        if inputs.get("enableObjectRetention"):
            query["enableObjectRetention"] = "true"
        self.call("POST", "b", self.new_body(names, inputs), query=query)
        self.call("GET", self.path(names))
        state = self.read_back(names, inputs)
        if not inputs.get("project"):  # the bucket knows its project's number only
            number = state["projectNumber"]
            state["project"] = self.client.call(Call("compute", "GET", f"projects/{number}"))[
                "name"
            ]
        return self.identity(names), state

    def new_body(self, names: Names, inputs: Object) -> Object:
        body = super().new_body(names, inputs)
        body["location"] = inputs["location"]
        uniform = bool(inputs.get("uniformBucketLevelAccess"))
        rest.put(body, "iamConfiguration.uniformBucketLevelAccess.enabled", uniform)
        body["lifecycle"] = {"rule": self._rules(inputs)}
        if policy := inputs.get("softDeletePolicy"):
            seconds = policy.get("retentionDurationSeconds", 604800)
            body["softDeletePolicy"] = {"retentionDurationSeconds": str(seconds)}
        for key in ("versioning", "hierarchicalNamespace", "autoclass"):
            if key in inputs:
                body[key] = {"enabled": bool(inputs[key]["enabled"]), **body.get(key, {})}
        return body

    def _rules(self, inputs: Object) -> list[Object]:
        return [self._rule(entry) for entry in inputs.get("lifecycleRules") or []]

    def _rule(self, entry: Object) -> Object:
        field = self.table.fields["lifecycleRules"]
        rule = rest.body(field.children, entry, {})
        condition = rule.setdefault("condition", {})
        state = condition.pop("isLive", None)
        if state in STATES:
            condition["isLive"] = STATES[state]
        for key, flag in ZERO_SENT.items():
            if entry["condition"].get(flag) and not entry["condition"].get(key):
                condition[key] = 0
        return rule

    def state(self, answer: Object, given: Object, names: Names) -> Object:
        before = given.get("lifecycleRules") or []
        state = super().state(answer, given, names)
        for index, rule in enumerate(state["lifecycleRules"]):
            live = rest.pick((answer["lifecycle"]["rule"])[index], "condition.isLive")
            rule["condition"]["withState"] = {True: "LIVE", False: "ARCHIVED", None: "ANY"}[live]
            flags = before[index].get("condition", {}) if index < len(before) else {}
            for flag in ZERO_SENT.values():
                rule["condition"][flag] = bool(flags.get(flag))
        state["name"] = answer["name"]
        state["url"] = f"gs://{answer['name']}"
        state["location"] = str(answer.get("location", "")).upper()
        state["forceDestroy"] = bool(given.get("forceDestroy"))
        state["enableObjectRetention"] = bool(given.get("enableObjectRetention"))
        state["hierarchicalNamespace"] = state["hierarchicalNamespace"] or {"enabled": False}
        state["project"] = names["project"]
        return state

    def _changes(self, inputs: Object, old: Object) -> list[Change]:
        location = str(inputs.get("location", ""))
        if location.upper() == str(old.get("location", "")).upper() and old:
            inputs = {**inputs, "location": old["location"]}
        return super()._changes(inputs, old)

    def must_replace(self, change: Change, inputs: Object, old: Object) -> bool:
        return bool(change.old) and not change.new

    def patch(self, names: Names, inputs: Object, old: Object, found: list[Change]) -> None:
        tops = {change.top for change in found}
        fields = {name: item for name, item in self.table.inputs.items() if name in tops}
        values = plan(fields, inputs, old)
        body = rest.body(fields, values, names, update=True)
        if "lifecycleRules" in tops:
            body["lifecycle"] = {"rule": self._rules(inputs)}
        if "uniformBucketLevelAccess" in tops:
            uniform = bool(inputs.get("uniformBucketLevelAccess"))
            rest.put(body, "iamConfiguration.uniformBucketLevelAccess.enabled", uniform)
        for key in tops & {"versioning", "autoclass"}:
            body[key] = {"enabled": bool((inputs.get(key) or {}).get("enabled"))}
        if "softDeletePolicy" in tops:
            seconds = (inputs.get("softDeletePolicy") or {}).get("retentionDurationSeconds", 604800)
            body["softDeletePolicy"] = {"retentionDurationSeconds": str(seconds)}
        if "labels" in tops:
            after = self.labels_after(inputs, old)[1]
            gone = {key: None for key in old.get("effectiveLabels") or {} if key not in after}
            body["labels"] = {**after, **gone}
        self.call("PATCH", self.path(names), body)

    def fetch(self, names: Names, state: Object) -> Object | None:
        try:
            return dict(self.call("GET", self.path(names)))
        except ApiError as error:
            if is_missing(error):
                return None
            raise

    def remove(self, names: Names, old: Object) -> None:
        path = self.path(names)
        caches = self.client.call(Call("storage", "GET", f"{path}/anywhereCaches/"))
        objects = self._objects(path)
        if (objects or caches.get("items")) and not old.get("forceDestroy"):
            raise FailedError(
                f"Error trying to delete bucket {names['name']} without `force_destroy` set to true"
            )
        for entry in objects:
            name = urllib.parse.quote(entry["name"], safe="")
            query = {"generation": str(entry["generation"])}
            self.call("DELETE", f"{path}/o/{name}", query=query)
        self.call("DELETE", path)

    def _objects(self, path: str) -> list[Object]:
        found: list[Object] = []
        query = {"versions": "true"}
        while True:
            page = self.call("GET", f"{path}/o", query=query)
            found += page.get("items", [])
            if not page.get("nextPageToken"):
                return found
            query["pageToken"] = page["nextPageToken"]

    def delete_error(self, text: str, names: Names) -> str:
        return f"Error deleting bucket {names['name']}: {text}"


class BucketObject(Storage):
    """An object; new content under the same name is a replacement where it comes as an asset."""

    UNSUPPORTED = ("customerEncryption", "contexts", "retention")

    def problems(self, inputs: Object, old: Object | None) -> list[str]:
        return [
            f"the stand-in does not know {key}; the real provider does"
            for key in self.UNSUPPORTED
            if inputs.get(key)
        ]

    def path(self, names: Names) -> str:
        return f"b/{names['bucket']}/o/{urllib.parse.quote(names['name'], safe='')}"

    def create(self, inputs: Object) -> tuple[str, Object]:
        names = self.names(inputs)
        self._upload(names, inputs)
        return self.identity(names), self.read_back(names, inputs)

    def _media(self, inputs: Object) -> bytes:
        if "source" in inputs:
            try:
                return assets.content(inputs["source"])
            except assets.UnreadableAssetError as error:
                raise FailedError(str(error)) from error
        if not inputs.get("content"):
            raise FailedError('Error, either "content" or "source" must be specified')
        return str(inputs["content"]).encode()

    def _upload(self, names: Names, inputs: Object) -> None:
        media = self._media(inputs)
        metadata = {**rest.body(self.table.inputs, inputs, names), "bucket": inputs["bucket"]}
        kind = inputs.get("contentType") or _sniff(inputs, media)
        boundary = secrets.token_hex(30)
        body = b"".join(
            [
                f"--{boundary}\r\nContent-Type: application/json\r\n\r\n".encode(),
                json.dumps(metadata).encode(),
                f"\r\n--{boundary}\r\nContent-Type: {kind}\r\n\r\n".encode(),
                media,
                f"\r\n--{boundary}--\r\n".encode(),
            ]
        )
        call = Call(
            "storage",
            "POST",
            f"b/{names['bucket']}/o",
            query={"name": names["name"], "uploadType": "multipart"},
            library=True,
            media=body,
            headers={"Content-Type": f"multipart/related; boundary={boundary}"},
        )
        with step(f"Error uploading object {names['name']}"):
            self.client.call(call)

    def state(self, answer: Object, given: Object, names: Names) -> Object:
        state = super().state(answer, given, names)
        md5 = str(answer.get("md5Hash", ""))
        state |= {
            "bucket": names["bucket"],
            "name": names["name"],
            "outputName": answer["name"],
            "detectMd5hash": md5,
            "md5hexhash": _hex(md5),
            "customerEncryption": Secret(None),
            "source": given.get("source"),
            "sourceMd5hash": given.get("sourceMd5hash") or "",
        }
        return state

    def _changes(self, inputs: Object, old: Object) -> list[Change]:
        # The stored object's own hash stands in state where the input says "different hash".
        wanted = {**inputs, "detectMd5hash": old.get("detectMd5hash")}
        return super()._changes(wanted, old)

    def update(self, resource_id: str, inputs: Object, old: Object, found: list[Change]) -> Object:
        names = self.names_from(resource_id, old)
        if {change.top for change in found} & {"content", "sourceMd5hash"}:
            self._upload(names, inputs)
        else:
            with step(f"Error updating object {names['name']}"):
                current = self.call("GET", self.path(names))
                held = {key: bool(inputs.get(key)) for key in ("eventBasedHold", "temporaryHold")}
                self.call("PUT", self.path(names), {**current, **held})
        return self.read_back(names, inputs)

    def delete_error(self, text: str, names: Names) -> str:
        return f"Error deleting contents of object {names['name']}: {text}"


def _hex(md5: str) -> str:
    try:
        return base64.b64decode(md5).hex()
    except (binascii.Error, ValueError):
        return ""


def _sniff(inputs: Object, media: bytes) -> str:
    """The type that the upload names when the program does not: from the first bytes."""
    if media.startswith(b"PK\x03\x04"):
        return "application/zip"
    if media.startswith(b"\x1f\x8b\x08"):
        return "application/x-gzip"
    try:
        media[:512].decode()
    except UnicodeDecodeError:
        return mimetypes.guess_type(inputs["name"])[0] or "application/octet-stream"
    return "text/plain; charset=utf-8"
