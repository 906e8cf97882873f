"""Enabled APIs of a project: read as one list, enabled in batches."""

from __future__ import annotations

from typing import Any

from ..change import Change
from ..client import ApiError, Call
from ..failures import FailedError, step
from ..operations import is_missing, wait_long
from ..resource import Resource
from ..rest import Names
from ..values import Object
from .batch import Batch

BATCH_S = 3
LARGEST_BATCH = 20
PAGE = {"filter": "state:ENABLED", "fields": "services/name,nextPageToken", "pageSize": "200"}


class Service(Resource):
    """An API of the project is on. `disableOnDestroy` is off unless it is asked for."""

    _lists: Batch[str] = Batch()
    _enables: Batch[str] = Batch()

    def names(self, values: Any) -> Names:
        names = super().names(values)
        return {**names, "project": names["project"].removeprefix("projects/")}

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        return self.client.call(
            Call(self.table.service, method, path, body=body, library=True, **options)
        )

    def _enabled(self, project: str) -> set[str]:
        """Names of the enabled APIs; readers within 3 s share the list."""
        result = self._lists.run(
            project, "", lambda: self.client.wait(BATCH_S), lambda _: self._list(project)
        )
        assert isinstance(result, set)
        return result

    def _list(self, project: str) -> set[str]:
        names: set[str] = set()
        query = dict(PAGE)
        with step(f"Error when reading or editing Project Service {project}"):
            while True:
                page = self.call("GET", f"projects/{project}/services", query=query)
                names |= {entry["name"].rpartition("/")[2] for entry in page.get("services", [])}
                if not page.get("nextPageToken"):
                    return names
                query["pageToken"] = page["nextPageToken"]

    def create(self, inputs: Object) -> tuple[str, Object]:
        names = self.names(inputs)
        project, service = names["project"], inputs["service"]
        if service not in self._enabled(project):
            self._enables.run(
                project,
                service,
                lambda: self.client.wait(BATCH_S),
                lambda services: self._enable(project, services),
            )
            found = self.read(self.identity(names), {**inputs, "project": project})
            if found is None:
                raise FailedError(
                    f"Error enabling service: {service} is not enabled for project {project}"
                )
        return self.identity(names), self._state(names, inputs)

    def _enable(self, project: str, services: list[str]) -> None:
        with step(
            "Error when reading or editing Project Service : Request `Enable Project Services`"
        ):
            for start in range(0, len(services), LARGEST_BATCH):
                some = services[start : start + LARGEST_BATCH]
                path = f"projects/{project}/services"
                if len(some) == 1:
                    operation = self.call("POST", f"{path}/{some[0]}:enable", {})
                else:
                    operation = self.call("POST", f"{path}:batchEnable", {"serviceIds": some})
                wait_long(self.client, self.table.service, operation)
            self._list(project)

    def _state(self, names: Names, given: Object) -> Object:
        state: Object = {key: given.get(key) for key in self.table.inputs}
        policy = given.get("deletionPolicy") or "DELETE"
        return {**state, "project": names["project"], "deletionPolicy": policy}

    def read(self, resource_id: str, old: Object) -> tuple[str, Object] | None:
        names = self.names_from(resource_id, old)
        project = names["project"]
        try:
            self.client.call(Call("crm", "GET", f"projects/{project}", library=True))
        except ApiError as error:
            if is_missing(error):
                return None
            raise FailedError(f"Error when reading or editing Project Service: {error}") from error
        if names["service"] not in self._enabled(project):
            return None
        return self.identity(names), self._state(names, {**old, "service": names["service"]})

    def update(self, resource_id: str, inputs: Object, old: Object, found: list[Change]) -> Object:
        return self._state(self.names_from(resource_id, old), inputs)

    def remove(self, names: Names, old: Object) -> None:
        if not old.get("disableOnDestroy"):
            return
        usage = "CHECK" if old.get("checkIfServiceHasUsageOnDestroy") else "SKIP"
        body = {
            "disableDependentServices": bool(old.get("disableDependentServices")),
            "checkIfServiceHasUsage": usage,
        }
        path = f"projects/{names['project']}/services/{names['service']}:disable"
        wait_long(self.client, self.table.service, self.call("POST", path, body))
