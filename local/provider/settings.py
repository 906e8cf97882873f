"""Where the provider's settings come from: its own configuration first, then the environment."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .messages import RefusedError

# An endpoint is a host and a version; the REST paths follow it.
ENDPOINT = re.compile(r".*/[^/]+/$")
PROJECT = ("GOOGLE_PROJECT", "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT")
REGION = ("GOOGLE_REGION", "GCLOUD_REGION", "CLOUDSDK_COMPUTE_REGION")
ZONE = ("GOOGLE_ZONE", "GCLOUD_ZONE", "CLOUDSDK_COMPUTE_ZONE")
FROM_ENVIRONMENT = {"project": PROJECT, "region": REGION, "zone": ZONE}
# What a provider may be configured with; the stand-in heeds those that it reads below.
KNOWN = frozenset(
    [
        "accessToken",
        "addPulumiAttributionLabel",
        "batching",
        "billingProject",
        "credentials",
        "defaultLabels",
        "deletionPolicy",
        "disableGooglePartnerName",
        "externalCredentials",
        "googlePartnerName",
        "impersonateServiceAccount",
        "impersonateServiceAccountDelegates",
        "pollInterval",
        "preferGlobalEndpoints",
        "preferRegionalEndpoints",
        "project",
        "pulumiAttributionLabelAdditionStrategy",
        "region",
        "requestReason",
        "requestTimeout",
        "scopes",
        "skipRegionValidation",
        "universeDomain",
        "userProjectOverride",
        "zone",
        "version",
        "pluginDownloadURL",
    ]
)
ATTRIBUTION = {"goog-pulumi-provisioned": "true"}


@dataclass(frozen=True)
class Service:
    """One Google API: the names of its custom endpoint, and the version that library calls insist
    on."""

    env: str
    key: str
    version: str = ""


SERVICES = {
    "compute": Service("COMPUTE", "compute"),
    "storage": Service("STORAGE", "storage"),
    "functions": Service("CLOUDFUNCTIONS2", "cloudfunctions2"),
    "scheduler": Service("CLOUD_SCHEDULER", "cloudScheduler"),
    "run": Service("CLOUD_RUN_V2", "cloudRunV2"),
    "kms": Service("KMS", "kms"),
    "secrets": Service("SECRET_MANAGER", "secretManager"),
    "iam": Service("IAM_BETA", "iamBeta", "v1"),
    "crm": Service("RESOURCE_MANAGER", "resourceManager", "v1"),
    "cloudbilling": Service("CLOUD_BILLING", "cloudBilling", "v1"),
    "budgets": Service("BILLING_BUDGETS", "billingBudgets"),
    "quotas": Service("CLOUD_QUOTAS", "cloudQuotas"),
    "serviceusage": Service("SERVICE_USAGE", "serviceUsage", "v1"),
}


def first_of(names: tuple[str, ...], environment: Mapping[str, str]) -> str:
    """The first of these variables that is set, or ""."""
    return next((environment[name] for name in names if environment.get(name)), "")


def unknown_keys(inputs: Mapping[str, Any]) -> list[str]:
    """Configuration keys that the real provider would refuse."""
    own = {key for key in inputs if not key.startswith("__")}
    return sorted(key for key in own - KNOWN if not key.endswith("CustomEndpoint"))


def with_environment(inputs: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """Provider inputs with project, region and zone filled in: these are stored in state."""
    filled = dict(inputs)
    for key, names in FROM_ENVIRONMENT.items():
        value = filled.get(key) or first_of(names, environment)
        if value:
            filled[key] = value
    return filled


@dataclass(frozen=True)
class Settings:
    """The configured provider.

    wait_scale: every wait of the stand-in is multiplied by it (STANDIN_WAIT_SCALE, default 1);
    the order
        and the number of the calls do not depend on it.
    """

    project: str = ""
    region: str = ""
    zone: str = ""
    poll_s: float = 10
    default_labels: tuple[tuple[str, str], ...] = ()
    attribution: bool = True
    endpoints: tuple[tuple[str, str], ...] = ()
    token: str = ""
    metadata_host: str = ""
    wait_scale: float = 1

    @property
    def labels(self) -> dict[str, str]:
        return {**(ATTRIBUTION if self.attribution else {}), **dict(self.default_labels)}

    def endpoint(self, service: str) -> str:
        """The base address of a service, ending in "/". Refuses where no custom endpoint is set."""
        base = dict(self.endpoints).get(service)
        if base is None:
            name = f"GOOGLE_{SERVICES[service].env}_CUSTOM_ENDPOINT"
            raise RefusedError(
                "this is a stand-in for the Google provider and never calls Google: "
                f"{name} is not set. Nothing was sent. Run it in a local cloud "
                "(mayfly local up), or install the real provider"
            )
        return base


def _duration_s(text: Any, default: float) -> float:
    match = re.fullmatch(r"([0-9.]+)(ms|s|m|h)?", str(text or ""))
    if match is None:
        return default
    return float(match[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, None: 1}[match[2]]


def _decoded(value: Any) -> Any:
    """Structured provider configuration travels as JSON text."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _endpoints(inputs: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name, service in SERVICES.items():
        base = inputs.get(f"{service.key}CustomEndpoint") or environment.get(
            f"GOOGLE_{service.env}_CUSTOM_ENDPOINT", ""
        )
        if not base:
            continue
        if not ENDPOINT.match(base):
            raise RefusedError(
                f'"{service.key}_custom_endpoint" ({base}) must be a URL that ends in a '
                f'version and "/"'
            )
        if service.version:  # library-based calls drop the last segment and add their own version
            base = base.rstrip("/").rpartition("/")[0] + f"/{service.version}/"
        found[name] = base
    return found


def read(inputs: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Settings:
    """Settings of the configured provider; `inputs` win over the environment."""
    environment = os.environ if environment is None else environment
    filled = with_environment(inputs, environment)
    labels = _decoded(filled.get("defaultLabels")) or {}
    return Settings(
        project=filled.get("project", ""),
        region=filled.get("region", ""),
        zone=filled.get("zone", ""),
        poll_s=_duration_s(filled.get("pollInterval"), 10),
        default_labels=tuple(sorted(labels.items())),
        attribution=_decoded(filled.get("addPulumiAttributionLabel", True)) is not False,
        endpoints=tuple(_endpoints(filled, environment).items()),
        token=filled.get("accessToken") or environment.get("GOOGLE_OAUTH_ACCESS_TOKEN", ""),
        metadata_host=environment.get("GCE_METADATA_HOST", ""),
        wait_scale=float(environment.get("STANDIN_WAIT_SCALE", "1")),
    )
