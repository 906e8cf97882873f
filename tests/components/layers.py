"""The three layers as programs, with the smallest configuration that works."""

from collections.abc import Mapping
from typing import Any

from tests.components.mocks import PROJECT, Call, World, run_program

OUTPUTS = "pulumi:pulumi:readStackOutputs"
OWN_STATE = "pulumi:pulumi:readStackResourceOutputs"
OBJECTS = "gcp:storage/getBucketObjects:getBucketObjects"
INSTANCE = "gcp:compute/getInstance:getInstance"
SUBNET = "https://www.googleapis.com/compute/v1/projects/proj-1/regions/us-central1/subnetworks/s"

RATE = {
    "hourlyUsd": "52.96",
    "rateSource": "a price page",
    "rateDate": "2026-09-19",
}
FOUNDATION = {
    "project": PROJECT,
    "regions": ["us-central1"],
    "subnets": {"us-central1": SUBNET},
    "network": "net",
    "node_email": f"mayfly-node@{PROJECT}.iam.gserviceaccount.com",
    "seeder_email": f"mayfly-seeder@{PROJECT}.iam.gserviceaccount.com",
    "reaper_email": f"mayfly-reaper@{PROJECT}.iam.gserviceaccount.com",
    "weights_bucket": f"{PROJECT}-mayfly-weights",
    "cache_bucket": f"{PROJECT}-mayfly-cache",
    "state_bucket": f"{PROJECT}-mayfly-state",
    "api_key": "k-e-y",
    "api_key_secret": f"projects/{PROJECT}/secrets/mayfly-api-key",
    "hf_token_secret": "",
    "reaper_uri": "https://reaper.run/",
    "reaper_job": "mayfly-reaper",
}


def outputs_of(values: Mapping[str, Any]) -> Call:
    return lambda args: {"name": args["name"], "outputs": dict(values)}


def listed(*names: str) -> Call:
    """A bucket with these objects."""
    return lambda args: {
        **args,
        "bucketObjects": [{"name": n} for n in names if n.startswith(args["prefix"])],
    }


def fresh(foundation: Mapping[str, Any] = FOUNDATION) -> dict[str, Call]:
    """A backend that holds a foundation, and this stack without any resource; a seeded bucket."""
    return {
        OBJECTS: lambda args: {**args, "bucketObjects": [{"name": args["prefix"]}]},
        OUTPUTS: outputs_of(foundation),
        OWN_STATE: lambda args: {"name": args["stackName"], "outputs": {}},
    }


def foundation(**more: str) -> World:
    return _run("foundation", "foundation", {}, more)


def seed(calls: Mapping[str, Call] | None = None, **more: str) -> World:
    return _run("seed", "seed", fresh() if calls is None else calls, {**RATE, **more})


def session(calls: Mapping[str, Call] | None = None, **more: str) -> World:
    return _run("session", "dev", fresh() if calls is None else calls, {**RATE, **more})


def _run(layer: str, stack: str, calls: Mapping[str, Call], keys: Mapping[str, str]) -> World:
    """keys: without `mayfly:`; gcp_project is the one that is not ours."""
    ours = {f"mayfly:{key}": value for key, value in keys.items() if key != "gcp_project"}
    project = {"gcp:project": keys.get("gcp_project", PROJECT), "mayfly:layer": layer}
    return run_program({**project, **ours}, stack=stack, calls=calls)
