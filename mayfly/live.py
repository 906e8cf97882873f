"""What Google says that a machine costs now, as rates with their source and the day."""

from mayfly import advice, catalog
from mayfly.advice import Advice
from mayfly.cloud import Cloud, CloudError
from mayfly.pricing import Rate, utc_today


def rate(cloud: Cloud, machine: str, zone: str, provisioning: str) -> Rate | None:
    """The price of a machine in a zone now; None where Google tells none. Raises CloudError.

    Flex-start has none: neither the price history nor the catalogue knows it.
    """
    if provisioning == "spot":
        return spot(cloud, machine, zone)
    return catalog.on_demand(cloud, machine, zone) if provisioning == "on-demand" else None


def spot(cloud: Cloud, machine: str, zone: str) -> Rate | None:
    """A spot VM's list price in a zone; None where Google tells none. Raises CloudError."""
    found = advice.one(cloud, machine, zone)
    if isinstance(found, CloudError):
        raise found
    return spot_rate(machine, found, cloud.project) if found.usd_per_h else None


def spot_rate(machine: str, one: Advice, project: str) -> Rate:
    """Google's own price, of an advice that has one."""
    assert one.usd_per_h is not None  # the caller has looked
    since = f", since {one.price_since[:10]}" if one.price_since else ""
    return Rate(
        usd_per_h=one.usd_per_h,
        source=f"Google's price history in project {project}{since}",
        date=utc_today().isoformat(),
        place=one.zone,
        machine=machine,
        provisioning="spot",
        live=True,
    )
