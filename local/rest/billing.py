"""Cloud Billing and its budgets: one open account that pays for the project."""

from __future__ import annotations

import re
import uuid
from typing import Any

from local.rest.errors import ApiError
from local.rest.masks import check_etag, new_etag, paths
from local.rest.service import Call, Service
from local.rest.words import words
from local.rest.world import World

SERVICE = Service(
    {"/cloudbilling/": "cloudbilling.v1"},
    api="cloudbilling.googleapis.com",
    title="Cloud Billing API",
)
BUDGETS = Service(
    {"/budgets/": "billingbudgets.v1"},
    api="billingbudgets.googleapis.com",
    title="Cloud Billing Budget API",
)
ACCOUNT = "000000-111111-222222"
METHOD = "billingbudgets.billingAccounts.budgets"
PROJECT = re.compile(r"projects/[a-z0-9-]+")
CHANGEABLE = frozenset(
    words("displayName budgetFilter amount thresholdRules notificationsRule ownershipScope")
)
DISPLAY_NAME_LIMIT = 60


class Budgets:
    def __init__(self, world: World) -> None:
        self.budgets: dict[str, dict[str, Any]] = {}


@SERVICE.method("cloudbilling.projects.getBillingInfo")
def billing_info(call: Call) -> dict[str, Any]:
    if call["projectsId"] not in (call.world.project, call.world.project_number):
        raise ApiError(403, "The caller does not have permission")
    project, paid = call.world.project, bool(call.world.settings["billing"])
    return {
        "name": f"projects/{project}/billingInfo",
        "projectId": project,
        "billingAccountName": f"billingAccounts/{ACCOUNT}" if paid else "",
        "billingEnabled": paid,
    }


@SERVICE.method("cloudbilling.billingAccounts.list")
def list_accounts(call: Call) -> dict[str, Any]:
    return {"billingAccounts": [_account()]}


@SERVICE.method("cloudbilling.billingAccounts.get")
def get_account(call: Call) -> dict[str, Any]:
    _require(call)
    return _account()


def _account() -> dict[str, Any]:
    name = f"billingAccounts/{ACCOUNT}"
    return {"name": name, "open": True, "displayName": "My Billing Account", "currencyCode": "USD"}


def _require(call: Call) -> str:
    if call["billingAccountsId"] != ACCOUNT:
        raise ApiError(403, "The caller does not have permission")
    return f"billingAccounts/{ACCOUNT}"


def _get(call: Call) -> dict[str, Any]:
    name = f"{_require(call)}/budgets/{call['budgetsId']}"
    found = call.world.of(Budgets).budgets.get(name)
    if found is None:
        raise ApiError(404, "Requested entity was not found.")
    return found


@BUDGETS.method(f"{METHOD}.create")
def create(call: Call) -> dict[str, Any]:
    name = f"{_require(call)}/budgets/{uuid.uuid4()}"
    budget = _completed(
        call.world, {k: v for k, v in call.body.items() if k not in ("name", "etag")}
    )
    call.world.of(Budgets).budgets[name] = budget | {"name": name}
    return call.world.of(Budgets).budgets[name]


@BUDGETS.method(f"{METHOD}.get")
def get(call: Call) -> dict[str, Any]:
    return _get(call)


@BUDGETS.method(f"{METHOD}.list")
def list_budgets(call: Call) -> dict[str, Any]:
    _require(call)
    return {"budgets": list(call.world.of(Budgets).budgets.values())}


@BUDGETS.method(f"{METHOD}.patch")
def patch(call: Call) -> dict[str, Any]:
    """A mask may name leaves; clients send the whole top-level field, and that is taken."""
    held = _get(call)
    check_etag(held, call.body)
    fields = {p.split(".")[0] for p in paths(call.query.get("updateMask"))} or set(call.body)
    if unknown := fields - CHANGEABLE - {"name", "etag"}:
        raise ApiError(400, f"Invalid update mask: {', '.join(sorted(unknown))}.")
    fresh = {k: v for k, v in held.items() if k not in fields}
    fresh |= {k: call.body[k] for k in fields & CHANGEABLE if k in call.body}
    budget = _completed(call.world, fresh) | {"name": held["name"]}
    call.world.of(Budgets).budgets[held["name"]] = budget
    return budget


@BUDGETS.method(f"{METHOD}.delete")
def delete(call: Call) -> dict[str, Any]:
    del call.world.of(Budgets).budgets[_get(call)["name"]]
    return {}


def _completed(world: World, given: dict[str, Any]) -> dict[str, Any]:
    """A checked budget with what Google adds; projects come back by number."""
    budget = dict(given)
    if len(budget.get("displayName", "")) > DISPLAY_NAME_LIMIT:
        raise ApiError(400, f"display_name must be at most {DISPLAY_NAME_LIMIT} characters.")
    amount = budget.get("amount", {})
    if len([k for k in ("specifiedAmount", "lastPeriodAmount") if k in amount]) != 1:
        raise ApiError(400, "Exactly one of specified_amount and last_period_amount must be set.")
    if "specifiedAmount" in amount:
        money = {"currencyCode": "USD"} | amount["specifiedAmount"]
        if money["currencyCode"] != "USD":
            raise ApiError(400, "The currency code must be the billing account's: USD.")
        budget["amount"] = {"specifiedAmount": money}
    for rule in budget.get("thresholdRules", []):
        if rule.get("thresholdPercent", -1) < 0:
            raise ApiError(400, "threshold_percent must not be negative.")
    filter_ = {"creditTypesTreatment": "INCLUDE_ALL_CREDITS"} | budget.get("budgetFilter", {})
    if "customPeriod" not in filter_:
        filter_.setdefault("calendarPeriod", "MONTH")
    if projects := filter_.get("projects"):
        filter_["projects"] = [_by_number(world, p) for p in projects]
    budget |= {"budgetFilter": filter_, "etag": new_etag()}
    budget.setdefault("notificationsRule", {})
    return budget


def _by_number(world: World, project: str) -> str:
    if not PROJECT.fullmatch(project):
        raise ApiError(400, f"Invalid project in the budget filter: {project}.")
    known = project.removeprefix("projects/") == world.project
    return f"projects/{world.project_number}" if known else project
