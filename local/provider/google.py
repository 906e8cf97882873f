"""The Google provider's stand-in behind Pulumi's calls: checks, differences, errors as the engine
shows them."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import check, groups, invokes, settings
from .change import Change, replaces
from .client import ApiError, Client, Sleep, TransportError
from .failures import FailedError, PartFailedError
from .log import Log
from .messages import Checked, Difference, PartlyDoneError, RefusedError, Request, Urn, variables_of
from .operations import OperationError
from .resource import Resource
from .rest import inputs_after, inputs_of, look_up
from .schema import Table, load
from .values import UNKNOWN, Object, plain

VERSION = "10.2.0"
HANDLERS = {
    "network": ("Firewall", "Subnetwork", "Router", "RouterNat", "Address", "Disk"),
    "iam": ("IamMember",),
    "identity": ("Account", "CustomRole"),
    "service": ("Service",),
    "storage": ("Bucket", "BucketObject"),
    "secrets": ("SecretManagerSecret", "SecretVersion", "CryptoKey"),
    "serverless": ("Function", "Job", "Budget"),
    "instance": ("Instance",),
}


def handler(table: Table, client: Client) -> Resource:
    """The type's own class, imported when it is first needed, or the one for all."""
    name = table.header.get("handler")
    module = next((module for module, names in HANDLERS.items() if name in names), None)
    if module is None:
        return Resource(table, client)
    kind = getattr(importlib.import_module(f"{__package__}.handlers.{module}"), str(name))
    made = kind(table, client)
    assert isinstance(made, Resource)
    return made


def _table(token: str) -> Table:
    table = load(token)
    if table is None:
        raise RefusedError(
            f"unrecognized resource type (Check): {token}. The stand-in knows the "
            f"types in local/provider/types"
        )
    return table


class Google:
    """The provider. Everything it knows of a resource comes from the request or from the REST
    API."""

    def __init__(self, log: Log, sleep: Sleep = time.sleep) -> None:
        self._log, self._sleep = log, sleep
        self._client: Client | None = None

    def configure_inputs(self, inputs: Object) -> Checked:
        if unknown := settings.unknown_keys(inputs):
            checks = [
                f"Invalid or unknown key. Check `pulumi config get gcp:{k}`." for k in unknown
            ]
            text = "could not validate provider configuration: "
            return Checked(inputs={}, failures=[text + check for check in checks])
        try:
            filled = settings.with_environment(inputs, settings.os.environ)
            if UNKNOWN not in inputs.values():
                settings.read(filled)
        except RefusedError as error:
            return Checked(inputs={}, failures=[str(error)])
        return Checked(inputs=filled)

    def configure(self, inputs: Object) -> None:
        known = {key: value for key, value in variables_of(inputs).items() if value is not UNKNOWN}
        self._client = Client(settings.read(known), self._sleep)

    def _resource(self, urn: Urn) -> Resource:
        return handler(_table(urn.type), self.client)

    @property
    def client(self) -> Client:
        """The configured client."""
        if self._client is None:
            raise RefusedError("the provider was not configured")
        return self._client

    def check(self, request: Request) -> Checked:
        return check.check(_table(request.urn.type), request)

    @staticmethod
    def _plain(inputs: Object) -> Object:
        return {
            key: check.without_defaults_key(v) for key, v in inputs.items() if key != check.DEFAULTS
        }

    def diff(self, request: Request) -> Difference:
        resource, inputs = self._resource(request.urn), self._plain(request.inputs)
        with self._planning(request.urn):
            self._refuse(resource, inputs, request.old)
            found = resource.changed(inputs, request.old, request.ignore)
            replacing = replaces(found, lambda c: resource.must_replace(c, inputs, request.old))
        return Difference(
            changes={c.path: c.kind + ("-replace" if c in replacing else "") for c in found},
            replaces=sorted({change.path for change in replacing}),
            delete_before_replace=bool(replacing) and self._delete_first(resource.table, request),
        )

    @staticmethod
    def _delete_first(table: Table, request: Request) -> bool:
        """An explicit name can only be given once; an automatic one leaves room for the
        successor."""
        if table.header.get("always_delete_first"):
            return True
        name = table.name_field
        if not name or table.header.get("name_is_not_identity"):
            return False
        automatic = name in (request.inputs.get(check.DEFAULTS) or [])
        return not automatic and request.inputs.get(name) == request.old_inputs.get(
            name, request.inputs.get(name)
        )

    @staticmethod
    def _refuse(resource: Resource, inputs: Object, old: Object | None) -> None:
        if problems := resource.problems(inputs, old):
            raise FailedError("\n\t* ".join(problems))

    def create(self, request: Request) -> tuple[str, Object]:
        resource, inputs = self._resource(request.urn), self._plain(request.inputs)
        with self._planning(request.urn):
            self._refuse(resource, inputs, None)
            if request.preview:
                return "", resource.planned(inputs, None)
        with self._failures(request.urn) as decorate:
            try:
                return resource.create(inputs)
            except PartFailedError as error:
                reason = decorate(str(error))
                raise PartlyDoneError(
                    error.resource_id, error.state, request.inputs, reason
                ) from error

    def read(self, request: Request) -> tuple[str, Object, Object]:
        resource = self._resource(request.urn)
        with self._failures(request.urn, f"refreshing {request.urn.text}: "):
            found = resource.read(request.resource_id, request.old)
        if found is None:
            return "", {}, {}
        resource_id, state = found
        return resource_id, state, self._refreshed(resource, request, state)

    def _refreshed(self, resource: Resource, request: Request, state: Object) -> Object:
        """Inputs that go with a state just read; an import has none yet."""
        if not request.old_inputs:
            return inputs_of(resource.table.inputs, state)
        drift = resource.changed(self._plain(request.old_inputs), plain(state), ())
        moved = [
            change
            for change in drift
            if _is_given(request.old_inputs, change)
            and look_up(request.old, change.path) != look_up(plain(state), change.path)
        ]
        return inputs_after(request.old_inputs, moved)

    def update(self, request: Request) -> Object:
        resource, inputs = self._resource(request.urn), self._plain(request.inputs)
        with self._planning(request.urn):
            self._refuse(resource, inputs, request.old)
            found = resource.changed(inputs, request.old, request.ignore)
        if request.preview:
            return {**resource.planned(inputs, request.old)}
        try:
            return resource.update(
                request.resource_id, self._kept(inputs, found, request), request.old, found
            )
        except (FailedError, ApiError, TransportError, OperationError) as error:
            self._log_failure(request.urn, str(error))
            reason = f"updating {request.urn.text}: {_one_error(str(error))}"
            raise PartlyDoneError(
                request.resource_id, request.old, request.old_inputs, reason
            ) from error

    @staticmethod
    def _kept(inputs: Object, found: list[Change], request: Request) -> Object:
        """Inputs of an update; what the program ignores stays as it is in state."""
        ignored = {path.split(".")[0].split("[")[0] for path in request.ignore}
        changed = {change.top for change in found}
        old = {key: request.old.get(key) for key in ignored - changed if key in inputs}
        return {**inputs, **{key: value for key, value in old.items() if value is not None}}

    def delete(self, request: Request) -> None:
        resource = self._resource(request.urn)
        with self._failures(request.urn, f"deleting {request.urn.text}: "):
            resource.delete(request.resource_id, request.old)

    def invoke(self, token: str, arguments: Object) -> Object:
        try:
            return invokes.invoke(self.client, token, arguments)
        except (FailedError, ApiError, TransportError) as error:
            raise RefusedError(f"invoking {token}: {_one_error(str(error))}") from error

    def cancel(self) -> None:
        """Nothing to stop: calls end with the process."""

    @contextmanager
    def _planning(self, urn: Urn) -> Iterator[None]:
        try:
            yield
        except FailedError as error:
            raise RefusedError(f"diffing {urn.text}: {_one_error(str(error))}") from error

    @contextmanager
    def _failures(self, urn: Urn, prefix: str = "") -> Iterator[Any]:
        """The two diagnostics of a failure: the provider's log line, and the error itself."""

        def decorate(text: str) -> str:
            self._log_failure(urn, text)
            return prefix + _one_error(text)

        try:
            yield decorate
        except (FailedError, ApiError, TransportError, OperationError) as error:
            raise RefusedError(decorate(str(error))) from error

    def _log_failure(self, urn: Urn, text: str) -> None:
        where = "  sdk-v2/provider2.go:571: sdk.helper_schema"
        self._log.error(urn, f"{where}: {text}: provider=google-beta@{VERSION}")


def _is_given(inputs: Object, change: Change) -> bool:
    """Whether the program itself sets what differs (or the list or object that it is in)."""
    return groups.at(inputs, change.top) is not None and not change.path.startswith(
        "deletionPolicy"
    )


def _one_error(text: str) -> str:
    return f"1 error occurred:\n\t* {text}\n\n"
