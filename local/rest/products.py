"""Every product that the REST fake serves."""

from __future__ import annotations

from local.rest import (
    billing,
    billing_catalog,
    functions,
    iam,
    kms,
    quotas,
    resourcemanager,
    run,
    scheduler,
    secrets,
    serviceusage,
    storage,
)
from local.rest.compute import service as compute
from local.rest.service import Service

SERVICES: tuple[Service, ...] = (
    compute,
    billing_catalog.SERVICE,  # billing's own, with the price list
    billing.BUDGETS,
    functions.SERVICE,
    iam.SERVICE,
    kms.SERVICE,
    quotas.SERVICE,
    resourcemanager.SERVICE,
    run.SERVICE,
    scheduler.SERVICE,
    secrets.SERVICE,
    serviceusage.SERVICE,
    storage.SERVICE,
)
