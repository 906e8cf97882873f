"""Cloud Functions (gen2), Cloud Scheduler, budgets."""

from __future__ import annotations

from typing import Any

from ..change import Change
from ..failures import PartFailedError, step
from ..operations import OperationError
from ..resource import Resource
from ..rest import Names
from ..values import Object

ADDED_BY_API = "LOG_EXECUTION_ID"
DEFAULT_DEADLINE = "180s"
CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"


class Function(Resource):
    """A function whose source the API copies: bucket and object in state are the program's."""

    def create(self, inputs: Object) -> tuple[str, Object]:
        names = self.names(inputs)
        try:
            self.insert(names, inputs)
        except Exception as error:
            if isinstance(error.__cause__, OperationError):
                kept = {**self.planned(inputs, None), "project": names["project"]}
                raise PartFailedError(self.identity(names), kept, str(error)) from error
            raise
        return self.identity(names), self.read_back(names, inputs)

    def new_body(self, names: Names, inputs: Object) -> Object:
        return self._explicit(super().new_body(names, inputs), None)

    def changed_body(self, names: Names, inputs: Object, old: Object) -> Object:
        body = self._explicit(super().changed_body(names, inputs, old), old)
        added = ((old.get("serviceConfig") or {}).get("environmentVariables") or {}).get(
            ADDED_BY_API
        )
        if added is not None and "serviceConfig" in body:
            variables = body["serviceConfig"].setdefault("environmentVariables", {})
            variables.setdefault(ADDED_BY_API, added)
        return body

    @staticmethod
    def _explicit(body: Object, old: Object | None) -> Object:
        """Of the two update policies, the one not chosen goes as null."""
        build = body.get("buildConfig")
        if build is not None:
            before = ((old or {}).get("buildConfig") or {}).get("automaticUpdatePolicy")
            build.setdefault("automaticUpdatePolicy", before)
            build.setdefault("onDeployUpdatePolicy", None)
        return body

    def state(self, answer: Object, given: Object, names: Names) -> Object:
        state = super().state(answer, given, names)
        wanted = (((given.get("buildConfig") or {}).get("source")) or {}).get("storageSource")
        source = ((state.get("buildConfig") or {}).get("source") or {}).get("storageSource")
        if wanted and source:
            source |= {k: v for k, v in wanted.items() if v is not None and k != "__defaults"}
        return state

    def _changes(self, inputs: Object, old: Object) -> list[Change]:
        return [
            change for change in super()._changes(inputs, old) if not self._added_by_api(change)
        ]

    @staticmethod
    def _added_by_api(change: Change) -> bool:
        if change.path != "serviceConfig.environmentVariables" or not isinstance(
            change.new, dict | None
        ):
            return False
        before = {k: v for k, v in (change.old or {}).items() if k != ADDED_BY_API}
        return before == (change.new or {})


class Job(Resource):
    """A scheduled call. A new one is always resumed or paused, whatever it was born as."""

    def problems(self, inputs: Object, old: Object | None) -> list[str]:
        target = inputs.get("httpTarget") or {}
        if target.get("oauthToken") and target.get("oidcToken"):
            return ["Error in http_target: only one of oauth_token or oidc_token can be specified"]
        return []

    def insert(self, names: Names, inputs: Object) -> None:
        super().insert(names, inputs)
        self._switch(names, bool(inputs.get("paused")))

    def _switch(self, names: Names, paused: bool) -> None:
        verb = "pause" if paused else "resume"
        with step(f"Error setting job state to {verb}"):
            self.call("POST", f"{self.path(names)}:{verb}", {})

    def new_body(self, names: Names, inputs: Object) -> Object:
        body = super().new_body(names, inputs)
        if body.get("attemptDeadline") == DEFAULT_DEADLINE:
            del body["attemptDeadline"]
        return body

    def changed_body(self, names: Names, inputs: Object, old: Object) -> Object:
        body = super().changed_body(names, inputs, old)
        body.pop("name", None)
        return body

    def patch(self, names: Names, inputs: Object, old: Object, found: list[Change]) -> Any:
        super().patch(names, inputs, old, found)

    def update(self, resource_id: str, inputs: Object, old: Object, found: list[Change]) -> Object:
        names = self.names_from(resource_id, old)
        self.patch(names, inputs, old, found)
        if any(change.top == "paused" for change in found):
            self._switch(names, bool(inputs.get("paused")))
        return self.read_back(names, inputs)

    def state(self, answer: Object, given: Object, names: Names) -> Object:
        state = super().state(answer, given, names)
        state["paused"] = answer.get("state") == "PAUSED"
        state["attemptDeadline"] = answer.get("attemptDeadline") or DEFAULT_DEADLINE
        return state

    def _changes(self, inputs: Object, old: Object) -> list[Change]:
        return [
            change for change in super()._changes(inputs, old) if not self._implied(change, inputs)
        ]

    @staticmethod
    def _implied(change: Change, inputs: Object) -> bool:
        """A token's audience or scope that the API filled in with its default."""
        if change.new:
            return False
        uri = (inputs.get("httpTarget") or {}).get("uri")
        return (change.path == "httpTarget.oidcToken.audience" and change.old == uri) or (
            change.path == "httpTarget.oauthToken.scope" and change.old == CLOUD_PLATFORM
        )


class Budget(Resource):
    """A budget; the API names it."""

    def create(self, inputs: Object) -> tuple[str, Object]:
        names = self.names(inputs)
        answer = self.insert(names, inputs)
        names["name"] = answer["name"].rpartition("/")[2]
        return self.identity(names), self.read_back(names, inputs)

    def new_body(self, names: Names, inputs: Object) -> Object:
        return self._amount(super().new_body(names, inputs), inputs)

    def changed_body(self, names: Names, inputs: Object, old: Object) -> Object:
        return self._amount(super().changed_body(names, inputs, old), inputs)

    @staticmethod
    def _amount(body: Object, inputs: Object) -> Object:
        if inputs["amount"].get("lastPeriodAmount"):
            body["amount"] = {"lastPeriodAmount": {}}
        labels = (inputs.get("budgetFilter") or {}).get("labels")
        if labels:
            body["budgetFilter"]["labels"] = {key: [value] for key, value in labels.items()}
        return body

    def state(self, answer: Object, given: Object, names: Names) -> Object:
        state = super().state(answer, given, names)
        state["amount"]["lastPeriodAmount"] = "lastPeriodAmount" in answer.get("amount", {})
        state["billingAccount"] = names["billingAccount"]
        if not answer.get("notificationsRule"):
            state["allUpdatesRule"] = None
        labels = (answer.get("budgetFilter") or {}).get("labels") or {}
        if state["budgetFilter"] is not None:
            state["budgetFilter"]["labels"] = {
                k: v[0] if isinstance(v, list) else v for k, v in labels.items()
            }
        return state
