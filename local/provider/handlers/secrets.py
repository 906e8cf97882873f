"""Secret Manager and Cloud KMS."""

from __future__ import annotations

import base64
import binascii
import datetime
from typing import Any

from ..change import Change
from ..client import Call
from ..failures import FailedError, step
from ..resource import Resource
from ..rest import Names
from ..same import last, relative
from ..values import UNKNOWN, Object, Secret


class SecretManagerSecret(Resource):
    """A secret without its value."""

    def _changes(self, inputs: Object, old: Object) -> list[Change]:
        # An empty `auto` is the answer to an empty `auto`.
        return [c for c in super()._changes(inputs, old) if not self._same_auto(c)]

    @staticmethod
    def _same_auto(change: Change) -> bool:
        return change.path == "replication.auto" and change.new == {} and change.old is not None

    def new_body(self, names: Names, inputs: Object) -> Object:
        return self._named(super().new_body(names, inputs), inputs)

    def changed_body(self, names: Names, inputs: Object, old: Object) -> Object:
        return self._named(super().changed_body(names, inputs, old), inputs)

    @staticmethod
    def _named(body: Object, inputs: Object) -> Object:
        if "userManaged" in inputs["replication"]:
            body["replication"] = {"automatic": None, **body["replication"]}
        else:
            body["replication"] = {"automatic": body.get("replication", {}).get("automatic", {})}
        return body

    def state(self, answer: Object, given: Object, names: Names) -> Object:
        state = super().state(answer, given, names)
        annotations = answer.get("annotations") or {}
        own = {
            key: annotations[key] for key in given.get("annotations") or {} if key in annotations
        }
        state |= {"annotations": own, "effectiveAnnotations": annotations}
        state["ttl"] = given.get("ttl")  # the API answers with the time, not with the duration
        state["deletionProtection"] = bool(given.get("deletionProtection"))
        return state

    def remove(self, names: Names, old: Object) -> None:
        if old.get("deletionProtection"):
            raise FailedError(
                f"cannot destroy secret {names['secretId']} without setting "
                f"deletion_protection=false"
                " and running `terraform apply`"
            )
        super().remove(names, old)


class SecretVersion(Resource):
    """A value of a secret. Its path names the project by number."""

    def names(self, values: Any) -> Names:
        names = super().names(values)
        secret = names.get("secret", "")
        if secret and "/" not in secret:
            names["secret"] = f"projects/{names['project']}/secrets/{secret}"
        return names

    def path(self, names: Names) -> str:
        return names["name"]

    def identity(self, names: Names) -> str:
        return names["name"]

    def create(self, inputs: Object) -> tuple[str, Object]:
        names = self.names(inputs)
        with step("Error creating SecretVersion"):
            body = {"payload": {"data": self._payload(inputs)}}
            names["name"] = self.call("POST", f"{names['secret']}:addVersion", body)["name"]
            self._switch(names, inputs)
        return names["name"], self.read_back(names, inputs)

    @staticmethod
    def _payload(inputs: Object) -> str:
        data = str(inputs.get("secretData") or inputs.get("secretDataWo") or "")
        if not inputs.get("isSecretDataBase64"):
            return base64.b64encode(data.encode()).decode()
        try:
            base64.b64decode(data, validate=True)
        except binascii.Error as error:
            raise FailedError(f"secret_data is not base64: {error}") from error
        return data

    def _switch(self, names: Names, inputs: Object) -> None:
        verb = "disable" if inputs.get("enabled") is False else "enable"
        self.call("POST", f"{names['name']}:{verb}")

    def names_from(self, resource_id: str, state: Object) -> Names:
        return self.names({**state, "name": resource_id})

    def state(self, answer: Object, given: Object, names: Names) -> Object:
        state = super().state(answer, given, names)
        return {
            **state,
            "name": answer["name"],
            "version": last(answer["name"]),
            "enabled": answer.get("state") != "DISABLED",
            "secret": relative(names.get("secret") or answer["name"].partition("/versions/")[0]),
            "secretDataWo": Secret(None),
        }

    def read(self, resource_id: str, old: Object) -> tuple[str, Object] | None:
        names = self.names_from(resource_id, old)
        answer = self.fetch(names, old)
        if answer is None or answer.get("state") == "DESTROYED":
            return None
        return resource_id, self.state(answer, old, names)

    def update(self, resource_id: str, inputs: Object, old: Object, found: list[Change]) -> Object:
        names = self.names_from(resource_id, old)
        if any(change.top == "enabled" for change in found):
            with step(f'Error updating SecretVersion "{resource_id}"'):
                self._switch(names, inputs)
        return self.read_back(names, inputs)

    def remove(self, names: Names, old: Object) -> None:
        verb = "disable" if old.get("deletionPolicy") == "DISABLE" else "destroy"
        self.call("POST", f"{names['name']}:{verb}")


class CryptoKey(Resource):
    """A key cannot be deleted: its versions are destroyed and its rotation is stopped."""

    def new_body(self, names: Names, inputs: Object) -> Object:
        body = super().new_body(names, inputs)
        body.pop("name", None)
        return self._rotating(body)

    @staticmethod
    def _rotating(body: Object) -> Object:
        if period := body.get("rotationPeriod"):
            start = datetime.datetime.now(datetime.UTC)
            when = start + datetime.timedelta(seconds=float(period.rstrip("s")))
            body["nextRotationTime"] = when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return body

    def changed_body(self, names: Names, inputs: Object, old: Object) -> Object:
        return self._rotating(super().changed_body(names, inputs, old))

    def mask(self, found: list[Change]) -> list[str]:
        paths = super().mask(found)
        if "rotationPeriod" in paths:
            paths.insert(paths.index("rotationPeriod") + 1, "nextRotationTime")
        return paths

    def state(self, answer: Object, given: Object, names: Names) -> Object:
        state = super().state(answer, given, names)
        primary = answer.get("primary")
        one = (
            [{"name": primary.get("name", ""), "state": primary.get("state", "")}]
            if primary
            else []
        )
        state["primaries"] = one
        state["keyRing"] = relative(names["keyRing"])
        skip = given.get("skipInitialVersionCreation")
        state["skipInitialVersionCreation"] = False if skip is UNKNOWN else bool(skip)
        return state

    def remove(self, names: Names, old: Object) -> None:
        def call(method: str, path: str, body: Any = None, **query: str) -> Any:
            return self.client.call(Call("kms", method, path, query, body, library=True))

        path = self.path(names)
        for version in call("GET", f"{path}/cryptoKeyVersions").get("cryptoKeyVersions", []):
            if version.get("state") not in ("DESTROYED", "DESTROY_SCHEDULED"):
                call("POST", f"{version['name']}:destroy", {})
        if old.get("rotationPeriod"):
            call("PATCH", path, {}, updateMask="rotationPeriod,nextRotationTime")
