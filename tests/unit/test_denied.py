"""What Google says of a whole project is told apart by its sentence; the status never tells."""

import pytest

from mayfly.cloud import denied
from mayfly.cloud.errors import CloudError

API_OFF = (
    "Cloud Quotas API has not been used in project p before or it is disabled. Enable it by "
    "visiting https://console.developers.google.com/apis/api/cloudquotas.googleapis.com/overview?"
    "project=p then retry."
)
TEXTS = [
    (API_OFF, denied.API_OFF),
    (
        "This API method requires billing to be enabled. Please enable billing on project #p by "
        "visiting https://console.developers.google.com/billing/enable?project=p then retry.",
        denied.BILLING_OFF,
    ),
    (
        "Billing account for project '123' is not found. Billing must be enabled for activation "
        "of service(s) 'compute.googleapis.com' to proceed.",
        denied.BILLING_OFF,
    ),
    (
        "The billing account for the owning project is disabled in state absent",
        denied.BILLING_OFF,
    ),
    (
        "Constraint constraints/compute.vmExternalIpAccess violated for project p. Add instance "
        "projects/p/zones/z/instances/i to the constraint to use external IP with it.",
        denied.ORG_POLICY,
    ),
    ("Permission denied on resource project my-prj.", denied.NO_PROJECT),
    ("Failed to find project my-prj", denied.NO_PROJECT),
    (
        "The caller does not have permission on project 'my-prj' (or it may not exist).",
        denied.NO_PROJECT,
    ),
    (
        "Permission denied to access service usage of projects/my-prj (or it may not exist).",
        denied.NO_PROJECT,
    ),
    ("Unknown project id: my-prj", denied.NO_PROJECT),
    ("Required 'compute.instances.create' permission for 'projects/p/zones/z'", ""),
    ("Permission 'cloudkms.keyRings.create' denied on resource 'projects/p'", ""),
    ("Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 1.0 globally.", ""),
]


@pytest.mark.parametrize(("text", "kind"), TEXTS)
def test_denial_is_told_apart_when_the_status_is_the_same(text: str, kind: str) -> None:
    """Each has its own way out; the wrong one sends a user to the wrong administrator."""
    error = CloudError(403, "PERMISSION_DENIED", f"GET compute.googleapis.com/x: 403 F: {text}")

    assert error.denied == kind
    if kind == denied.NO_PROJECT:
        assert error.in_three_lines().what == (
            "There is no project my-prj, or you have no rights in it."
        )
    if kind:
        assert len(str(error.in_three_lines()).splitlines()) == 3
