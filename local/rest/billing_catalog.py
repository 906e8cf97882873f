"""Cloud Billing Catalog: Compute Engine's SKUs, a few of them, worded as Google words them.

Beside what a machine is made of lie the neighbours by which a careless reader is caught:
preemptible and reserved ones, custom machines, other regions.
"""

from __future__ import annotations

from typing import Any

from local.rest.billing import SERVICE
from local.rest.errors import ApiError
from local.rest.service import Call

COMPUTE = "6F81-5844-456A"
SMALLEST, LARGEST = 1, 5000
PLACES = {"Americas": ["us-central1", "us-east4"], "Netherlands": ["europe-west4"]}
# (words, resource group, usage type, unit, USD)
SOLD = (
    ("A2 Instance Core running in {}", "CPU", "OnDemand", "h", 0.031611),
    ("A2 Instance Ram running in {}", "RAM", "OnDemand", "GiBy.h", 0.004237),
    ("Nvidia Tesla A100 80GB GPU running in {}", "GPU", "OnDemand", "h", 3.9),
    ("Nvidia Tesla A100 GPU running in {}", "GPU", "OnDemand", "h", 2.93),
    ("Spot Preemptible A2 Instance Core running in {}", "CPU", "Preemptible", "h", 0.0126),
    ("Nvidia Tesla A100 80GB GPU attached to Spot VMs in {}", "GPU", "Preemptible", "h", 1.57),
    ("Reserved Nvidia Tesla A100 80GB GPU in {}", "GPU", "OnDemand", "h", 3.9),
    ("A3 Instance Core running in {}", "CPU", "OnDemand", "h", 0.0293),
    ("A3 Instance Ram running in {}", "RAM", "OnDemand", "GiBy.h", 0.0025),
    # The list's own slip: below what the same GPU costs as spot.
    ("Nvidia H100 80GB GPU running in {}", "GPU", "OnDemand", "h", 1.0),
    ("N2 Instance Core running in {}", "CPU", "OnDemand", "h", 0.031611),
    ("N2 Instance Ram running in {}", "RAM", "OnDemand", "GiBy.h", 0.004237),
    ("N2 Custom Instance Core running in {}", "CPU", "OnDemand", "h", 0.033174),
    # Two for one part: which is meant, the list does not say.
    ("G2 Instance Core running in {}", "CPU", "OnDemand", "h", 0.024988),
    ("G2 Instance Core running in {} (second)", "CPU", "OnDemand", "h", 0.03),
    ("G2 Instance Ram running in {}", "RAM", "OnDemand", "GiBy.h", 0.002927),
    ("Nvidia L4 GPU running in {}", "GPU", "OnDemand", "h", 0.560004),
)


@SERVICE.method("cloudbilling.services.skus.list")
def list_skus(call: Call) -> dict[str, Any]:
    if call["servicesId"] != COMPUTE:
        raise ApiError(404, "Requested entity was not found.")
    size = int(call.query.get("pageSize") or LARGEST)
    if not 0 <= size <= LARGEST:
        raise ApiError(400, f"Page size must be between {SMALLEST} and {LARGEST}.")
    start = int(call.query.get("pageToken") or 0)
    made = [_sku(n, *row) for n, row in enumerate(_rows())]
    end = start + (size or LARGEST)
    answer: dict[str, Any] = {"skus": made[start:end], "nextPageToken": ""}
    return answer | ({"nextPageToken": str(end)} if end < len(made) else {})


def _rows() -> list[tuple[str, list[str], str, str, str, float]]:
    return [
        (words.format(place), regions, group, usage, unit, usd)
        for words, group, usage, unit, usd in SOLD
        for place, regions in PLACES.items()
    ]


def _sku(
    number: int, words: str, regions: list[str], group: str, usage: str, unit: str, usd: float
) -> dict[str, Any]:
    identifier = f"{number:04X}-0000-0000"
    units = int(usd)
    money = {"currencyCode": "USD", "units": str(units), "nanos": round((usd - units) * 1e9)}
    return {
        "name": f"services/{COMPUTE}/skus/{identifier}",
        "skuId": identifier,
        "description": words,
        "category": {
            "serviceDisplayName": "Compute Engine",
            "resourceFamily": "Compute",
            "resourceGroup": group,
            "usageType": usage,
        },
        "serviceRegions": regions,
        "pricingInfo": [
            {
                "summary": "",
                "pricingExpression": {
                    "usageUnit": unit,
                    "displayQuantity": 1,
                    "tieredRates": [{"startUsageAmount": 0, "unitPrice": money}],
                },
            }
        ],
        "serviceProviderName": "Google",
    }
