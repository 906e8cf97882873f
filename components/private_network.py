"""The network: nobody comes in but through IAP, and no machine needs an address of its own."""

from dataclasses import dataclass

import pulumi
import pulumi_gcp as gcp

from mayfly import names

IAP_RANGE = "35.235.240.0/20"
"""Where Google's Identity-Aware Proxy opens its tunnels from."""

# By name, not by position in a list: a region added later must not move another's subnet.
SUBNET_OCTET = {
    "us-central1": 0,
    "us-east1": 1,
    "us-east4": 2,
    "us-east5": 3,
    "us-west1": 4,
    "us-west4": 5,
    "europe-north1": 16,
    "europe-west1": 17,
    "europe-west3": 18,
    "europe-west4": 19,
    "europe-west9": 20,
}


@dataclass(frozen=True, kw_only=True)
class PrivateNetworkArgs:
    """regions: one subnet each."""

    project: str
    regions: tuple[str, ...]


class PrivateNetwork(pulumi.ComponentResource):
    """A network with a subnet a region, Private Google Access, and SSH through IAP alone.

    There is no NAT: what has no external address reaches Google's APIs and nothing else.
    """

    network: pulumi.Output[str]
    subnets: dict[str, pulumi.Output[str]]

    def __init__(
        self, name: str, args: PrivateNetworkArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("mayfly:components:PrivateNetwork", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        network = gcp.compute.Network(
            f"{name}-network",
            name="mayfly",
            project=args.project,
            auto_create_subnetworks=False,
            opts=child,
        )
        subnets = {
            region: gcp.compute.Subnetwork(
                f"{name}-{region}",
                name=f"mayfly-{region}",
                project=args.project,
                region=region,
                network=network.id,
                ip_cidr_range=f"10.77.{SUBNET_OCTET[region]}.0/24",
                private_ip_google_access=True,
                opts=child,
            )
            for region in args.regions
        }
        gcp.compute.Firewall(
            f"{name}-iap-ssh",
            name=names.SSH_RULE,
            project=args.project,
            network=network.id,
            description="SSH through Identity-Aware Proxy; the only way in",
            direction="INGRESS",
            source_ranges=[IAP_RANGE],
            target_tags=[names.VM_TAG],
            allows=[gcp.compute.FirewallAllowArgs(protocol="tcp", ports=["22"])],
            opts=child,
        )
        self.network = network.self_link
        self.subnets = {region: subnet.self_link for region, subnet in subnets.items()}
        self.register_outputs({"network": self.network, "subnets": self.subnets})
