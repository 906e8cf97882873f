"""Where each product answers, and the Google provider's variables that move it."""

import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

# product: (its variable, its own address). The program, the commands and the function move
# together, because they read the same variables.
_PRODUCTS = {
    "compute": ("COMPUTE", "https://compute.googleapis.com/compute/v1/"),
    "storage": ("STORAGE", "https://storage.googleapis.com/storage/v1/"),
    "secrets": ("SECRET_MANAGER", "https://secretmanager.googleapis.com/v1/"),
    "scheduler": ("CLOUD_SCHEDULER", "https://cloudscheduler.googleapis.com/v1/"),
    "functions": ("CLOUDFUNCTIONS2", "https://cloudfunctions.googleapis.com/v2/"),
    "projects": ("RESOURCE_MANAGER", "https://cloudresourcemanager.googleapis.com/v1/"),
    "services": ("SERVICE_USAGE", "https://serviceusage.googleapis.com/v1/"),
    "billing": ("CLOUD_BILLING", "https://cloudbilling.googleapis.com/v1/"),
    "quotas": ("CLOUD_QUOTAS", "https://cloudquotas.googleapis.com/v1/"),
    "kms": ("KMS", "https://cloudkms.googleapis.com/v1/"),
    "iam": ("IAM_BETA", "https://iam.googleapis.com/v1/"),
}
# For these the provider takes the host from the variable and the version from its own client.
_VERSION_IS_OURS = frozenset({"projects", "services", "iam"})


def base_url(product: str, environment: Mapping[str, str] = os.environ) -> str:
    """Address of a product, ending in "/". KeyError for a product that mayfly does not use."""
    variable, default = _PRODUCTS[product]
    custom = environment.get(f"GOOGLE_{variable}_CUSTOM_ENDPOINT", "")
    if not custom:
        return default
    custom = custom if custom.endswith("/") else custom + "/"
    if product in _VERSION_IS_OURS:
        version = default.rstrip("/").rsplit("/", 1)[1]
        return re.sub(r"/[^/]+/$", f"/{version}/", custom)
    return custom


def upload_url(storage_base: str) -> str:
    """Where media goes: /upload/storage/v1/ of the same host, as for Google's own clients."""
    return urlunsplit(urlsplit(storage_base)._replace(path="/upload/storage/v1/"))
