"""IAM members: one member of one binding of a policy, by reading, changing and writing the whole
policy."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from ..change import Change
from ..client import ApiError, Call
from ..failures import FailedError, step
from ..operations import is_missing
from ..resource import SCOPES, Resource
from ..rest import Names
from ..values import Object
from .batch import Batch

CONFLICTS = (409, 412)
TRIES = 10
Policy = Object
Edit = Callable[[Policy], Policy]
_LOCKS: dict[str, threading.Lock] = defaultdict(threading.Lock)
_BATCH: Batch[Edit] = Batch()


def _condition(value: Object | None) -> Object | None:
    """A condition as REST has it: without what is empty."""
    kept = {
        k: v for k, v in (value or {}).items() if v and k in ("title", "description", "expression")
    }
    return kept or None


def _key(binding: Object) -> tuple[str, str]:
    condition = _condition(binding.get("condition"))
    return binding["role"], json.dumps(condition, sort_keys=True) if condition else ""


def _merged(policy: Policy) -> dict[tuple[str, str], Object]:
    """Bindings by role and condition, members sorted, empty ones left out."""
    found: dict[tuple[str, str], Object] = {}
    for binding in policy.get("bindings", []):
        entry = found.setdefault(_key(binding), {**binding, "members": []})
        entry["members"] = sorted({*entry["members"], *binding.get("members", [])})
    return {key: found[key] for key in sorted(found) if found[key]["members"]}


def _written(policy: Policy, bindings: dict[tuple[str, str], Object]) -> Policy:
    kept = {
        key: value for key, value in policy.items() if key in ("etag", "auditConfigs") and value
    }
    merged = _merged({"bindings": list(bindings.values())})
    if merged:
        kept["bindings"] = [
            {
                **({"condition": c} if (c := _condition(b.get("condition"))) else {}),
                "members": b["members"],
                "role": b["role"],
            }
            for b in merged.values()
        ]
    return {**kept, "version": 3}


def with_member(policy: Policy, role: str, member: str, condition: Object | None) -> Policy:
    """The policy with the member in the binding of this role and condition."""
    bindings = _merged(policy)
    wanted = {"role": role, "condition": condition}
    entry = bindings.setdefault(_key(wanted), {**wanted, "members": []})
    entry["members"] = sorted({*entry["members"], member})
    return _written(policy, bindings)


def without_member(policy: Policy, role: str, member: str, condition: Object | None) -> Policy:
    """The policy without the member in that binding."""
    bindings = _merged(policy)
    entry = bindings.get(_key({"role": role, "condition": condition}), {"members": []})
    entry["members"] = [m for m in entry["members"] if m.lower() != member.lower()]
    return _written(policy, bindings)


class IamMember(Resource):
    """Writers of one policy take turns; a project's are gathered for 3 s and written at once."""

    def names(self, values: Any) -> Names:
        names = super().names(values)
        for key in ("role", "member", *SCOPES):
            names.setdefault(key, "")
        owner = self._rule["owner"]
        if "{" + owner + "}" in self._rule["of"]:
            names[owner] = names.get(owner, "").removeprefix("b/")
            if self._rule["of"] != "{" + owner + "}":
                names[owner] = names[owner].rpartition("/")[2]
        return names

    @property
    def _rule(self) -> Object:
        return dict(self.table.header["policy"])

    def _of(self, names: Names) -> str:
        return str(self._rule["of"]).format(**names)

    def _call(self, rule: str, names: Names, body: Any) -> Any:
        method, _, address = str(self._rule[rule]).partition(" ")
        path, _, query = address.format(of=self._of(names)).partition("?")
        pairs = dict([query.split("=", 1)]) if query else {}
        return self.client.call(
            Call(self.table.service, method, path, pairs, body, bool(self._rule.get("library")))
        )

    def _policy(self, names: Names) -> Policy:
        is_project = self.table.service == "crm"
        body = {"options": {"requestedPolicyVersion": 3}} if is_project else None
        return dict(self._call("get", names, body))

    def _set(self, names: Names, policy: Policy) -> None:
        body: Object = policy if self.table.service == "storage" else {"policy": policy}
        if self.table.service == "crm":
            body["updateMask"] = "bindings,etag,auditConfigs"
        self._call("set", names, body)

    def _edit(self, names: Names, edit: Edit) -> None:
        """Read, change and write the policy, then look three times whether it holds."""
        what = (
            f"Error applying IAM policy for "
            f'{self.table.token.split(":")[1].split("/")[0]} "{self._of(names)}"'
        )
        if batch_s := self._rule.get("batch_s"):
            _BATCH.run(
                self._of(names), edit, lambda: self.client.wait(batch_s),
                lambda edits: self._apply(names, edits, what),
            )  # fmt: skip
            return
        with _LOCKS[self._of(names)]:
            self._apply(names, [edit], what)

    def _apply(self, names: Names, edits: list[Edit], what: str) -> None:
        with step(what):
            for attempt in range(TRIES):
                policy = self._policy(names)
                for edit in edits:
                    policy = edit(policy)
                try:
                    self._set(names, policy)
                    break
                except ApiError as error:
                    if error.status not in CONFLICTS or attempt == TRIES - 1:
                        raise
                    self.client.wait(1)
            for _ in range(3):
                self.client.wait(1)
                self._policy(names)

    def create(self, inputs: Object) -> tuple[str, Object]:
        names = self.names(inputs)
        condition = _condition(inputs.get("condition"))
        role, member = inputs["role"], inputs["member"]
        self._edit(names, lambda policy: with_member(policy, role, member, condition))
        found = self._read(names, inputs)
        if found is None:
            raise FailedError(
                f"{role} for {member} is not in the policy of {self._of(names)} after its write"
            )
        return self._identity(names, inputs), found

    def _identity(self, names: Names, values: Object) -> str:
        owner = names["project"] if self._rule.get("bare_id") else self._of(names)
        identity = f"{owner}/{values['role']}/{values['member']}"
        if condition := values.get("condition"):
            parts = (condition.get(key) or "" for key in ("title", "description", "expression"))
            identity += "/" + "/".join(parts)
        return identity

    def _read(self, names: Names, values: Object) -> Object | None:
        try:
            policy = self._policy(names)
        except ApiError as error:
            if is_missing(error):
                return None
            raise FailedError(
                f"Error retrieving IAM policy for {self._of(names)}: {error}"
            ) from error
        condition = _condition(values.get("condition"))
        binding = _merged(policy).get(_key({"role": values["role"], "condition": condition}), {})
        if values["member"].lower() not in [m.lower() for m in binding.get("members", [])]:
            return None
        return self._state(names, values, policy)

    def _state(self, names: Names, values: Object, policy: Policy) -> Object:
        state: Object = {
            "role": values["role"],
            "member": values["member"],
            "etag": policy.get("etag", ""),
        }
        condition = values.get("condition")
        state["condition"] = {"description": "", **condition} if condition else None
        for key in self.table.inputs.keys() - state.keys():
            state[key] = names.get(key, "")
        owner = self._rule["owner"]
        if not self._rule.get("bare_id"):
            state[owner] = self._of(names)
        return state

    def read(self, resource_id: str, old: Object) -> tuple[str, Object] | None:
        if not old:
            raise FailedError("the stand-in cannot import IAM members")
        names = self.names(old)
        found = self._read(names, old)
        return None if found is None else (resource_id, found)

    def update(self, resource_id: str, inputs: Object, old: Object, found: list[Change]) -> Object:
        raise FailedError("IAM members have no update: every change replaces")

    def delete(self, resource_id: str, old: Object) -> None:
        names, condition = self.names(old), _condition(old.get("condition"))
        role, member = old["role"], old["member"]
        try:
            self._edit(names, lambda policy: without_member(policy, role, member, condition))
            self._policy(names)
        except FailedError as error:
            if not (isinstance(error.__cause__, ApiError) and is_missing(error.__cause__)):
                raise
        except ApiError as error:
            if not is_missing(error):
                raise FailedError(str(error)) from error
