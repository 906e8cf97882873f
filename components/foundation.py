"""The layer that is made once a project; everything that needs rights to give rights is here."""

from typing import Any

import pulumi

from components.api_key import ApiKey
from components.apis import Apis
from components.cache_bucket import CacheBucket
from components.identities import Identities, IdentitiesArgs
from components.idle_reaper import IdleReaper, IdleReaperArgs
from components.private_network import PrivateNetwork, PrivateNetworkArgs
from components.weight_bucket import WeightBucket
from mayfly.settings import FoundationSettings


def build(settings: FoundationSettings) -> dict[str, Any]:
    """Make the foundation, buckets and reaper in its first region; returns the stack's outputs."""
    project, home = settings.project, settings.regions[0]
    after = pulumi.ResourceOptions(depends_on=[Apis("apis", project)])
    network = PrivateNetwork(
        "network", PrivateNetworkArgs(project=project, regions=settings.regions), after
    )
    weights = WeightBucket("weights", project, home, after)
    cache = CacheBucket("cache", project, home, after)
    key = ApiKey("api-key", project, after)
    hf_token_secret = _secret_path(project, settings.hf_token_secret)
    who = Identities(
        "identities",
        IdentitiesArgs(
            project=project,
            stack=settings.stack,
            state_bucket=settings.state_bucket,
            state_key=settings.state_key,
            hf_token_secret=hf_token_secret,
            members=settings.members,
            weights_bucket=weights.bucket,
            cache_bucket=cache.bucket,
            api_key_secret=key.secret,
        ),
        after,
    )
    reaper = IdleReaper(
        "reaper",
        IdleReaperArgs(
            project=project,
            region=home,
            foundation_stack=settings.stack,
            state_bucket=settings.state_bucket,
            reaper_email=who.email("reaper"),
            scheduler_email=who.email("scheduler"),
            build_account=who.accounts["build"].name,
        ),
        # A reaper without its rights would fail its first ticks, and a build without its own fail.
        pulumi.ResourceOptions(depends_on=[who]),
    )
    return {
        "project": project,
        "regions": list(settings.regions),
        "subnets": network.subnets,
        "network": network.network,
        "node_email": who.email("node"),
        "seeder_email": who.email("seeder"),
        "reaper_email": who.email("reaper"),
        "weights_bucket": weights.bucket,
        "cache_bucket": cache.bucket,
        "state_bucket": settings.state_bucket,
        "api_key": key.value,
        "api_key_secret": key.secret,
        "hf_token_secret": hf_token_secret,
        "reaper_uri": reaper.uri,
        "reaper_job": reaper.job,
    }


def _secret_path(project: str, secret: str) -> str:
    """A short id in full; "" stays ""."""
    return f"projects/{project}/secrets/{secret}" if secret and "/" not in secret else secret
