"""Subnetwork, Firewall, Router, RouterNat, Address, Disk: compute types with calls of their own."""

from __future__ import annotations

import ipaddress
import threading
from collections import defaultdict

from .. import rest
from ..change import Change, plan
from ..failures import FailedError, step
from ..resource import Resource
from ..rest import Names
from ..same import last
from ..values import UNKNOWN, Object

_LOCKS: dict[str, threading.Lock] = defaultdict(threading.Lock)


def _regional(body: Object, names: Names) -> Object:
    if "region" in body:
        body["region"] = f"projects/{names['project']}/global/regions/{last(names['region'])}"
    return body


class Firewall(Resource):
    """Logging is one object in REST: {enable, metadata}."""

    def problems(self, inputs: Object, old: Object | None) -> list[str]:
        sources = ("sourceTags", "sourceRanges", "sourceServiceAccounts")
        problems = []
        if inputs.get("direction") != "EGRESS" and not any(inputs.get(name) for name in sources):
            problems.append(
                "one of source_tags, source_ranges, or source_service_accounts must be defined"
            )
        if inputs.get("enableLogging") is False and inputs.get("logConfig"):
            problems.append("log_config cannot be defined when enable_logging is false")
        return problems

    def new_body(self, names: Names, inputs: Object) -> Object:
        return self._with_logging(super().new_body(names, inputs), inputs)

    def changed_body(self, names: Names, inputs: Object, old: Object) -> Object:
        return self._with_logging(super().changed_body(names, inputs, old), inputs)

    @staticmethod
    def _with_logging(body: Object, inputs: Object) -> Object:
        config = inputs.get("logConfig")
        body["logConfig"] = {
            "enable": bool(config or inputs.get("enableLogging")),
            **(config or {}),
        }
        return body

    def state(self, answer: Object, given: Object, names: Names) -> Object:
        state = super().state(answer, given, names)
        enabled = rest.pick(answer, "logConfig.enable") or False
        state["enableLogging"] = enabled if given.get("enableLogging") is not None else None
        if not enabled:
            state["logConfig"] = None
        return state


class Subnetwork(Resource):
    """One call a group of properties, each with the fingerprint that it was read with."""

    def new_body(self, names: Names, inputs: Object) -> Object:
        body = _regional(super().new_body(names, inputs), names)
        body["logConfig"] = {"enable": bool(inputs.get("logConfig")), **body.get("logConfig", {})}
        return body

    def must_replace(self, change: Change, inputs: Object, old: Object) -> bool:
        if change.new is UNKNOWN or not change.old or not change.new:
            return True
        new, before = ipaddress.ip_network(change.new), ipaddress.ip_network(change.old)
        return new.version != before.version or not before.subnet_of(new)  # type: ignore[arg-type]

    def state(self, answer: Object, given: Object, names: Names) -> Object:
        state = super().state(answer, given, names)
        if not rest.pick(answer, "logConfig.enable"):
            state["logConfig"] = None
        return state

    def patch(self, names: Names, inputs: Object, old: Object, found: list[Change]) -> None:
        path, calls = self.path(names), {change.field.call or "PATCH" for change in found}
        with step(f'Error updating Subnetwork "{self.identity(names)}"'):
            if "expandIpCidrRange" in calls:
                body = {"ipCidrRange": inputs["ipCidrRange"]}
                self.finish(self.call("POST", f"{path}/expandIpCidrRange", body), "region", names)
            if "setPrivateIpGoogleAccess" in calls:
                body = {"privateIpGoogleAccess": bool(inputs.get("privateIpGoogleAccess"))}
                answer = self.call("POST", f"{path}/setPrivateIpGoogleAccess", body)
                self.finish(answer, "region", names)
            for top in dict.fromkeys(c.top for c in found if c.field.call == "PATCH"):
                self._patch_one(names, inputs, old, top)

    def _patch_one(self, names: Names, inputs: Object, old: Object, top: str) -> None:
        values = plan({top: self.table.fields[top]}, inputs, old)
        body = rest.body({top: self.table.fields[top]}, values, names, update=True)
        if top == "logConfig":
            body = {"logConfig": {"enable": bool(inputs.get(top)), **body.get("logConfig", {})}}
        body["fingerprint"] = self.call("GET", self.path(names)).get("fingerprint")
        self.finish(self.call("PATCH", self.path(names), body), "region", names)


class Router(Resource):
    """A router without BGP says so with a null."""

    def new_body(self, names: Names, inputs: Object) -> Object:
        return {"bgp": None, **_regional(super().new_body(names, inputs), names)}

    def problems(self, inputs: Object, old: Object | None) -> list[str]:
        bgp = inputs.get("bgp") or {}
        custom = [key for key in ("advertisedGroups", "advertisedIpRanges") if bgp.get(key)]
        if custom and bgp.get("advertiseMode", "DEFAULT") == "DEFAULT":
            return [
                (
                    "Error in bgp: advertised groups and ranges cannot be specified when "
                    "using advertise_mode DEFAULT"
                )
            ]
        return []


class RouterNat(Resource):
    """An entry of its router's `nats`; writers of one router take turns."""

    def names(self, values: Object) -> Names:
        names = super().names(values)
        return {**names, "router": last(names.get("router", ""))}

    def problems(self, inputs: Object, old: Object | None) -> list[str]:
        if inputs.get("drainNatIps") and old is None:
            return ["New RouterNat cannot have drain_nat_ips"]
        return []

    def insert(self, names: Names, inputs: Object) -> None:
        with _LOCKS[self.path(names)], step("Error creating RouterNat"):
            nats = self.call("GET", self.path(names)).get("nats", [])
            if any(nat["name"] == names["name"] for nat in nats):
                raise FailedError(
                    f"Error creating RouterNat: RouterNat {names['name']} already exists"
                )
            self._write(names, [*nats, self._entry(names, inputs)])

    def _entry(self, names: Names, inputs: Object) -> Object:
        fields = {k: f for k, f in self.table.inputs.items() if k != "initialNatIps"}
        body = rest.body(fields, inputs, names)
        empty = {
            k: [] for k in ("drainNatIps", "natIps", "nat64Subnetworks", "subnetworks", "rules")
        }
        if initial := inputs.get("initialNatIps"):
            empty["natIps"] = initial
        return {**empty, "logConfig": None, **body, "name": names["name"]}

    def _write(self, names: Names, nats: list[Object]) -> None:
        answer = self.call("PATCH", self.path(names), {"nats": nats})
        self.finish(answer, "region", names)

    def fetch(self, names: Names, state: Object) -> Object | None:
        router = super().fetch(names, state) or {}
        return next((nat for nat in router.get("nats", []) if nat["name"] == names["name"]), None)

    def patch(self, names: Names, inputs: Object, old: Object, found: list[Change]) -> None:
        with _LOCKS[self.path(names)], step("Error updating RouterNat"):
            nats = self.call("GET", self.path(names)).get("nats", [])
            entry = self._entry(names, plan(self.table.inputs, inputs, old))
            self._write(names, [entry if nat["name"] == names["name"] else nat for nat in nats])

    def remove(self, names: Names, old: Object) -> None:
        with _LOCKS[self.path(names)]:
            nats = self.call("GET", self.path(names)).get("nats", [])
            self._write(names, [nat for nat in nats if nat["name"] != names["name"]])


class Address(Resource):
    """Its labels are set by a second call, with the fingerprint read after the first."""

    def new_body(self, names: Names, inputs: Object) -> Object:
        return _regional(super().new_body(names, inputs), names)

    def insert(self, names: Names, inputs: Object) -> None:
        super().insert(names, inputs)
        if labels := self._own_labels(inputs):
            fingerprint = self.call("GET", self.path(names)).get("labelFingerprint")
            self._set_labels(names, labels, fingerprint)

    def _set_labels(self, names: Names, labels: Object, fingerprint: str | None) -> None:
        body = {"labelFingerprint": fingerprint, "labels": labels}
        with step("Error setting labels"):
            answer = self.call("POST", f"{self.path(names)}/setLabels", body)
            self.finish(answer, self.table.header["create"]["wait"], names)

    def patch(self, names: Names, inputs: Object, old: Object, found: list[Change]) -> None:
        if any(change.top == "labels" for change in found):
            self._set_labels(names, self.labels_after(inputs, old)[1], old.get("labelFingerprint"))


class Disk(Address):
    """Labels, size and speed change by calls of their own."""

    def new_body(self, names: Names, inputs: Object) -> Object:
        body = Resource.new_body(self, names, inputs)
        if "zone" in body:
            body["zone"] = f"projects/{names['project']}/global/zones/{names['zone']}"
        return body

    def insert(self, names: Names, inputs: Object) -> None:
        Resource.insert(self, names, inputs)

    def must_replace(self, change: Change, inputs: Object, old: Object) -> bool:
        if change.top == "size":
            return change.new is UNKNOWN or (change.new or 0) < (change.old or 0)
        return "hyperdisk" not in str(inputs.get("type", ""))

    def patch(self, names: Names, inputs: Object, old: Object, found: list[Change]) -> None:
        super().patch(names, inputs, old, found)
        path, tops = self.path(names), {change.top for change in found}
        with step(f'Error updating Disk "{self.identity(names)}"'):
            if "size" in tops:
                self.finish(
                    self.call("POST", f"{path}/resize", {"sizeGb": inputs["size"]}), "zone", names
                )
            for top in sorted(tops & {"provisionedIops", "provisionedThroughput", "accessMode"}):
                body = rest.body({top: self.table.fields[top]}, inputs, names)
                self.finish(self.call("PATCH", path, body, query={"paths": top}), "zone", names)

    def remove(self, names: Names, old: Object) -> None:
        disk = self.call("GET", self.path(names))
        for user in disk.get("users", []):
            self._detach(user, disk, names)
        super().remove(names, old)

    def _detach(self, user: str, disk: Object, names: Names) -> None:
        path = "projects/" + user.partition("/projects/")[2]
        for attached in self.call("GET", path).get("disks", []):
            if last(attached.get("source", "")) == disk["name"]:
                query = {"deviceName": attached["deviceName"]}
                self.finish(self.call("POST", f"{path}/detachDisk", query=query), "zone", names)
