"""Google's public price list (Cloud Billing Catalog): what a machine costs on demand in a region.

It sells parts: vCPUs, memory, GPUs, each a SKU told apart by its words. So a machine has a price
here only where each of its parts has exactly one SKU; nothing is guessed. Bundled Local SSD is not
in it. Spot is left to the price history, which prices the whole VM.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mayfly import pricing
from mayfly.advice import usd
from mayfly.cloud import Cloud
from mayfly.machines import MACHINES, region_of
from mayfly.pricing import Rate, utc_today

COMPUTE = "services/6F81-5844-456A"
PAGE = 5000
MOST_PAGES = 40
SOURCE = "Google's Cloud Billing Catalog: VM and GPUs, Local SSD not included"

# By the beginning of a machine's name: the words of its parts, and its vCPUs (for each GPU, or as
# many as the name says).
SERIES = {
    "a3-highgpu-": ("A3 Instance", "H100 80GB GPU", 26),
    "a2-ultragpu-": ("A2 Instance", "A100 80GB GPU", 12),
    "g2-standard-": ("G2 Instance", "L4 GPU", 0),
    "n2-standard-": ("N2 Instance", "", 0),
}


def on_demand(cloud: Cloud, machine: str, zone: str) -> Rate | None:
    """A machine's price in a zone's region; None where the list does not say. Raises CloudError."""
    found = parts(machine)
    if found is None:
        return None
    region = region_of(zone)
    listed = [sku for sku in skus(cloud) if region in sku.get("serviceRegions", [])]
    prices = [(count, price(listed, pattern, unit)) for pattern, unit, count in found]
    if any(each is None for _, each in prices):
        return None
    total = sum(count * each for count, each in prices if each is not None)
    spot = pricing.known(machine, zone, "spot")
    if spot and total <= spot[-1].usd_per_h:
        return None  # a known slip of the list: a GPU's SKU below what it costs as spot
    return Rate(
        usd_per_h=round(total, 4),
        source=SOURCE,
        date=utc_today().isoformat(),
        place=region,
        machine=machine,
        provisioning="on-demand",
        live=True,
    )


def parts(machine: str) -> list[tuple[re.Pattern[str], str, int]] | None:
    """(words, unit, how many) of each part; None for a machine whose SKUs nobody has told us."""
    prefix = next((each for each in SERIES if machine.startswith(each)), None)
    if prefix is None:
        return None
    series, gpu, per_gpu = SERIES[prefix]
    kind = MACHINES[machine]
    vcpus = kind.gpus * per_gpu if per_gpu else int(machine.rpartition("-")[2])
    found = [
        (re.compile(rf"{series} Core\b"), "h", vcpus),
        (re.compile(rf"{series} Ram\b"), "GiBy.h", kind.ram_gb),
    ]
    if gpu:
        found.append((re.compile(rf"Nvidia (Tesla )?{gpu}\b"), "h", kind.gpus))
    return found


def skus(cloud: Cloud) -> Iterator[Mapping[str, Any]]:
    """Compute's SKUs that are sold on demand, page by page."""
    token = ""
    for _ in range(MOST_PAGES):
        path = f"{COMPUTE}/skus?pageSize={PAGE}&pageToken={token}"
        page = cloud.ask("GET", "billing", path) or {}
        for sku in page.get("skus", []):
            if (sku.get("category") or {}).get("usageType") == "OnDemand":
                yield sku
        token = page.get("nextPageToken", "")
        if not token:
            return


def price(listed: Iterable[Mapping[str, Any]], words: re.Pattern[str], unit: str) -> float | None:
    """Dollars an hour for one of a part; None where no SKU, or more than one, is meant."""
    found = [sku for sku in listed if words.match(str(sku.get("description", "")))]
    if len(found) != 1:
        return None
    told = (found[0].get("pricingInfo") or [{}])[-1].get("pricingExpression") or {}
    tiers = told.get("tieredRates") or []
    if told.get("usageUnit") != unit or len(tiers) != 1:
        return None
    return usd(tiers[0].get("unitPrice"))
