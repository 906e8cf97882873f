"""A resource of any type by its table: create, read, update, delete. Types with manners of their
own
derive from `Resource` (handlers/) and change only what differs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from . import rest
from .change import Change, changes, not_ignored, plan
from .client import ApiError, Call, Client, TransportError
from .failures import FailedError, step
from .operations import OperationError, is_missing, wait_compute, wait_long
from .rest import Names
from .schema import Table
from .settings import Settings
from .values import UNKNOWN, Object, Secret

SCOPES = ("project", "region", "zone", "location")


class Resource:
    """One type on one configured provider. Holds no state: every method gets what it needs."""

    def __init__(self, table: Table, client: Client) -> None:
        self.table, self.client = table, client
        self.settings: Settings = client.settings

    # What addresses are made of

    def names(self, values: Mapping[str, Any]) -> Names:
        """Address parts from inputs or state, then from the provider's settings."""
        found = {key: str(v) for key, v in values.items() if isinstance(v, (str, bool, int))}
        found = {
            key: value.lower() if value in ("True", "False") else value
            for key, value in found.items()
        }
        for key in self._scopes():
            if not found.get(key):
                found[key] = self._default_scope(key)
        for key in ("region", "zone"):
            if "/" in found.get(key, ""):
                found[key] = found[key].rpartition("/")[2]
        return found

    def _scopes(self) -> list[str]:
        """The address parts that the provider's settings may fill in."""
        fields = self.table.fields
        return [key for key in SCOPES if key in fields and not fields[key].required]

    def _default_scope(self, key: str) -> str:
        settings = self.settings
        region = settings.region or settings.zone.rpartition("-")[0]
        value = {"project": settings.project, "zone": settings.zone}.get(key, region)
        if value:
            return value
        if key == "project":
            raise FailedError("project: required field is not set")
        raise FailedError(
            f"Cannot determine {key}: set in this resource, or set provider-level '{key}'"
            + (" or 'zone'." if key == "region" else ".")
        )

    def names_from(self, resource_id: str, state: Object) -> Names:
        """Address parts of an existing resource: its state, or its id where there is none (an
        import)."""
        if state:
            return self.names({**self._parsed(resource_id), **state})
        return self.names(self._parsed(resource_id))

    def _parsed(self, resource_id: str) -> Names:
        parts = re.split(r"(\{[a-zA-Z]+\})", self.table.identity)
        groups = [
            f"(?P<{p[1:-1]}>.+)" if p.startswith("{") else re.escape(p) for p in parts
        ]  # the last segments bind first: an id's own name holds no "/"
        match = re.fullmatch("".join(groups), resource_id)
        return match.groupdict() if match else {}

    def path(self, names: Names) -> str:
        """The REST path of the resource."""
        return self.table.path.format(**names)

    def identity(self, names: Names) -> str:
        """Pulumi's id."""
        return self.table.identity.format(**names)

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """One request to this type's service."""
        return self.client.call(Call(self.table.service, method, path, body=body, **options))

    # Plans

    def problems(self, inputs: Object, old: Object | None) -> list[str]:
        """What the provider refuses while it plans (so at preview, too)."""
        return []

    def changed(self, inputs: Object, old: Object, ignored: tuple[str, ...]) -> list[Change]:
        """What an update would change."""
        return not_ignored(self._changes(inputs, old), ignored)

    def _changes(self, inputs: Object, old: Object) -> list[Change]:
        wanted = dict(inputs)
        for key in self._scopes():
            if wanted.get(key) is None and old.get(key):
                wanted[key] = self._scope_or_old(key, old[key])
        return changes(self.table.fields, wanted, old)

    def _scope_or_old(self, key: str, old: str) -> str:
        try:
            return self._default_scope(key)
        except FailedError:
            return old

    def must_replace(self, change: Change, inputs: Object, old: Object) -> bool:
        """Decides for a property whose table says `replace: maybe`."""
        return False

    def planned(self, inputs: Object, old: Object | None) -> Object:
        """The state that is meant, as far as it can be told before an apply."""
        values = plan(self.table.fields, inputs, old)
        for key in self._scopes():
            if values[key] in (None, UNKNOWN):
                values[key] = (old or {}).get(key) or self._scope_or_old(key, "") or UNKNOWN
        if "labels" in self.table.fields and old is None:
            values["pulumiLabels"] = Secret(self._own_labels(inputs))
            values["effectiveLabels"] = UNKNOWN
        return {key: v for key, v in values.items() if v is not None}

    def _own_labels(self, inputs: Object) -> Object:
        labels = inputs.get("labels")
        return {**self.settings.labels, **(labels if isinstance(labels, dict) else {})}

    # Calls

    def create(self, inputs: Object) -> tuple[str, Object]:
        """Make it; the answer is Pulumi's id and the state read back."""
        names = self.names(inputs)
        self.insert(names, inputs)
        return self.identity(names), self.read_back(names, inputs)

    def insert(self, names: Names, inputs: Object) -> Any:
        """The creating call and its operation."""
        create = self.table.header["create"]
        query = {key: names.get(value, "false") for key, value in create.get("query", {}).items()}
        body = None if create.get("body") == "none" else self.new_body(names, inputs)
        with step(f"Error creating {self.table.noun}"):
            answer = self.call("POST", create["at"].format(**names), body, query=query)
        with step(f"Error waiting to create {self.table.noun}"):
            return self.finish(answer, create.get("wait", "none"), names)

    def new_body(self, names: Names, inputs: Object) -> Object:
        """The body of the creating call."""
        body = rest.body(self.table.inputs, inputs, names)
        if "name" in self.table.fields and "name" in inputs:
            body["name"] = self.identity(names) if self._full_name() else inputs["name"]
        if "labels" in self.table.fields:
            body["labels"] = self._own_labels(inputs)
        return body

    def _full_name(self) -> bool:
        return bool(self.table.header["create"].get("full_name"))

    def finish(self, answer: Object, kind: str, names: Names) -> Object:
        """Wait for what a writing call started. kind: none, operation, global, region or zone."""
        if kind == "none":
            return answer
        if kind == "operation":
            return wait_long(self.client, self.table.service, answer)
        scope = kind if kind == "global" else f"{kind}s/{names[kind]}"
        return wait_compute(self.client, answer, f"projects/{names['project']}/{scope}")

    def fetch(self, names: Names, state: Object) -> Object | None:
        """The REST resource; None: it is not there."""
        try:
            with_error: Object = self.call("GET", self.path(names))
        except ApiError as error:
            if is_missing(error):
                return None
            raise FailedError(
                f"Error when reading or editing {self.table.noun}: {error}"
            ) from error
        except TransportError as error:
            raise FailedError(
                f"Error when reading or editing {self.table.noun}: {error}"
            ) from error
        return with_error

    def read_back(self, names: Names, given: Object) -> Object:
        """State right after a write."""
        answer = self.fetch(names, given)
        if answer is None:
            raise FailedError(
                f"{self.table.noun} {self.path(names)} is gone right after it was written"
            )
        return self.state(answer, given, names)

    def state(self, answer: Object, given: Object, names: Names) -> Object:
        """Outputs from the REST resource."""
        state = rest.state(self.table.fields, answer, given, names)
        if "labels" in self.table.fields:
            state |= self._labels_state(answer, given)
        return state

    def _labels_state(self, answer: Object, given: Object) -> Object:
        """`labels` holds the program's own keys only; foreign ones show in effectiveLabels."""
        actual = answer.get("labels") or {}
        own = {key: actual[key] for key in given.get("labels") or {} if key in actual}
        before = given.get("pulumiLabels")
        ours = (
            {key: actual[key] for key in before if key in actual}
            if before
            else self._own_labels(given)
        )
        return {
            "labels": own or None,
            "pulumiLabels": Secret(ours),
            "effectiveLabels": Secret(actual),
        }

    def read(self, resource_id: str, old: Object) -> tuple[str, Object] | None:
        """State as the API has it now; None: it is gone."""
        names = self.names_from(resource_id, old)
        answer = self.fetch(names, old)
        if answer is None:
            return None
        return self.identity(names), self.state(answer, old, names)

    def update(self, resource_id: str, inputs: Object, old: Object, found: list[Change]) -> Object:
        """Carry out the changes in place; the answer is the new state."""
        names = self.names_from(resource_id, old)
        if any(change.field.sent for change in found):
            self.patch(names, inputs, old, found)
        return self.read_back(names, self.given_after(inputs, old))

    def given_after(self, inputs: Object, old: Object) -> Object:
        """What the API never tells, after an update."""
        kept = {key: value for key, value in old.items() if key == "pulumiLabels"}
        if "pulumiLabels" in kept:
            kept["pulumiLabels"] = self.labels_after(inputs, old)[0]
        return {**inputs, **kept}

    def labels_after(self, inputs: Object, old: Object) -> tuple[Object, Object]:
        """(our labels, all labels) that an update means: foreign keys stay."""
        before = old.get("pulumiLabels") or {}
        ours = {k: v for k, v in self.settings.labels.items() if k in before} | (
            inputs.get("labels") or {}
        )
        foreign = {k: v for k, v in (old.get("effectiveLabels") or {}).items() if k not in before}
        return ours, {**foreign, **ours}

    def patch(self, names: Names, inputs: Object, old: Object, found: list[Change]) -> Any:
        """The changing call of types that have one for everything."""
        update = self.table.header["update"]
        query = {key: names.get(value, "") for key, value in update.get("query", {}).items()}
        if update.get("mask"):
            query["updateMask"] = ",".join(self.mask(found))
        body = self.changed_body(names, inputs, old)
        with step(f'Error updating {self.table.noun} "{self.identity(names)}"'):
            answer = self.call(update["method"], self.path(names), body, query=query)
        with step(f"Error waiting to update {self.table.noun}"):
            wait = update.get("wait", self.table.header["create"].get("wait", "none"))
            return self.finish(answer, wait, names)

    def changed_body(self, names: Names, inputs: Object, old: Object) -> Object:
        """The body of the changing call: what is meant, with what the API had set itself."""
        values = plan(self.table.fields, inputs, old)
        body = rest.body(self.table.inputs, values, names, update=True)
        if "name" in inputs and not self.table.fields["name"].replace:
            body["name"] = inputs["name"]
        for path in self.table.header.get("echo", []):
            value = rest.pick(old, path)
            if value:
                rest.put(body, path, value)
        if "labels" in self.table.fields:
            body["labels"] = self.labels_after(inputs, old)[1]
        return body

    def mask(self, found: list[Change]) -> list[str]:
        """The update mask: each changed property by its REST name."""
        masks = self.table.header["update"].get("masks", {})
        paths: list[str] = []
        for name in dict.fromkeys(change.top for change in found if change.field.sent):
            paths += masks.get(name, [self.table.fields[name].api_path])
        return paths

    def delete(self, resource_id: str, old: Object) -> None:
        """Remove it. `deletionPolicy` and protection act from state, as in the real provider."""
        policy = old.get("deletionPolicy") or "DELETE"
        if policy == "ABANDON" or self.table.header.get("delete") == "nothing":
            return
        if policy == "PREVENT":
            raise FailedError(
                f'cannot destroy {self.table.noun} "{resource_id}": deletion_policy is '
                f'set to "PREVENT"'
            )
        names = self.names_from(resource_id, old)
        try:
            self.remove(names, old)
        except ApiError as error:
            if not is_missing(error) or self.table.header.get("missing_on_delete") == "error":
                raise FailedError(self.delete_error(str(error), names)) from error
        except (TransportError, OperationError) as error:
            raise FailedError(self.delete_error(str(error), names)) from error

    def delete_error(self, text: str, names: Names) -> str:
        """How the provider words a failed delete."""
        return f"Error when reading or editing {self.table.noun}: {text}"

    def remove(self, names: Names, old: Object) -> None:
        """The deleting call and its operation."""
        answer = self.call("DELETE", self.path(names))
        self.finish(answer, self.table.header["create"].get("wait", "none"), names)
