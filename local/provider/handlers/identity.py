"""Service accounts and custom roles."""

from __future__ import annotations

from typing import Any

from .. import rest
from ..change import Change, plan
from ..client import ApiError, Call
from ..failures import FailedError, step
from ..resource import Resource
from ..rest import Names
from ..values import Object

STEADY_READS = 3
LIBRARY_POLL_S = 0.5
TRIES = 60


class _Library(Resource):
    """Types whose calls are made by a generated client."""

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        return self.client.call(
            Call(self.table.service, method, path, body=body, library=True, **options)
        )


class Account(_Library):
    """New accounts take a while to be seen everywhere: read until steady, then wait."""

    def names(self, values: Any) -> Names:
        names = super().names(values)
        if not names.get("email") and names.get("accountId"):
            names["email"] = f"{names['accountId']}@{names['project']}.iam.gserviceaccount.com"
        return names

    def create(self, inputs: Object) -> tuple[str, Object]:
        names = self.names(inputs)
        body = {
            "accountId": inputs["accountId"],
            "serviceAccount": rest.body(self._described, inputs, names),
        }
        try:
            with step("Error creating service account"):
                self.call("POST", f"projects/{names['project']}/serviceAccounts", body)
        except FailedError as error:
            cause = error.__cause__
            exists = isinstance(cause, ApiError) and cause.status == 409
            if not (exists and inputs.get("createIgnoreAlreadyExists")):
                raise
        answer = self._steady(names, {})
        self.client.wait(10)
        return self.identity(names), self.state(answer, inputs, names)

    @property
    def _described(self) -> dict[str, Any]:
        return {key: self.table.fields[key] for key in ("displayName", "description")}

    def _steady(self, names: Names, wanted: Object) -> Object:
        """Three reads in a row that show what was written."""
        steady = 0
        for attempt in range(TRIES):
            if attempt:
                self.client.wait(LIBRARY_POLL_S)
            answer = self.fetch(names, {})
            shows = answer is not None and all(answer.get(k, "") == v for k, v in wanted.items())
            steady = steady + 1 if shows else 0
            if answer is not None and steady == STEADY_READS:
                return answer
        raise FailedError(
            f"Error reading service account after creation: {names['email']} does not show up"
        )

    def state(self, answer: Object, given: Object, names: Names) -> Object:
        state = super().state(answer, given, names)
        return {
            **state,
            "accountId": answer["email"].partition("@")[0],
            "disabled": bool(answer.get("disabled")),
            "member": f"serviceAccount:{answer['email']}",
        }

    def update(self, resource_id: str, inputs: Object, old: Object, found: list[Change]) -> Object:
        names, tops = self.names_from(resource_id, old), {change.top for change in found}
        with step("Error updating service account"):
            before = self.call("GET", self.path(names))
            if "disabled" in tops:
                verb = "disable" if inputs.get("disabled") else "enable"
                self.call("POST", f"{self.path(names)}:{verb}", {})
            described = sorted(tops & set(self._described))
            if not described:
                return self.read_back(names, inputs)
            wanted = {key: inputs.get(key, "") for key in described}
            snake = {"displayName": "display_name", "description": "description"}
            body = {
                "serviceAccount": {**wanted, "etag": before.get("etag")},
                "updateMask": ",".join(snake[key] for key in described),
            }
            self.call("PATCH", self.path(names), body)
            answer = self._steady(names, wanted)
        self.client.wait(5)
        return self.state(answer, inputs, names)


class CustomRole(_Library):
    """A deleted role lingers; making it again undeletes it."""

    def insert(self, names: Names, inputs: Object) -> None:
        found = self.fetch(names, {})
        if found is not None and not found.get("deleted"):
            raise FailedError(
                f"Custom project role {self.identity(names)} already exists and must be imported"
            )
        role = self._role(inputs)
        with step(f"Error creating the custom project role {inputs['title']}"):
            if found is None:
                path = f"projects/{names['project']}/roles"
                self.call("POST", path, {"roleId": inputs["roleId"], "role": role})
                return
            self.call("POST", f"{self.path(names)}:undelete", {"etag": found.get("etag")})
            self.call("PATCH", self.path(names), role)

    def _role(self, inputs: Object) -> Object:
        body = rest.body(self.table.inputs, inputs, {})
        body["includedPermissions"] = sorted(set(inputs["permissions"]))
        return body

    def state(self, answer: Object, given: Object, names: Names) -> Object:
        state = super().state(answer, given, names)
        return {**state, "roleId": answer["name"].rpartition("/")[2]}

    def read(self, resource_id: str, old: Object) -> tuple[str, Object] | None:
        found = super().read(resource_id, old)
        return None if found is not None and found[1].get("deleted") else found

    def update(self, resource_id: str, inputs: Object, old: Object, found: list[Change]) -> Object:
        names = self.names_from(resource_id, old)
        with step("Error updating the custom project role"):
            before = self.call("GET", self.path(names))
            if before.get("deleted"):
                self.call("POST", f"{self.path(names)}:undelete", {"etag": before.get("etag")})
            role = self._role(plan(self.table.inputs, inputs, old))
            answer = self.call("PATCH", self.path(names), role)
        return self.state({"name": resource_id, **answer}, inputs, names)

    def delete_error(self, text: str, names: Names) -> str:
        return f"Error deleting the custom project role {self.identity(names)}: {text}"
