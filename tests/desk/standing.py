"""A project in which nothing is wrong, made by the calls that init, foundation and seed make."""

import json
import os
from typing import Any

from local.rest.world import World
from mayfly import names, profile
from mayfly.cloud import Cloud, connect
from mayfly.doctor.access import FOUNDATION_APIS
from mayfly.project import CHECKOUT
from mayfly.setup import look, releases
from mayfly.setup.steps import BUCKET

PROJECT = "proj-one"
STATE, WEIGHTS = names.bucket(PROJECT, "state"), names.bucket(PROJECT, "weights")
KEY = f"projects/{PROJECT}/locations/us-central1/keyRings/mayfly/cryptoKeys/state"
REAPER = f"mayfly-reaper@{PROJECT}.iam.gserviceaccount.com"
JOB = f"projects/{PROJECT}/locations/us-central1/jobs/mayfly-reaper"
KIMI = profile.load("kimi-k2.5")
MODEL = names.model_prefix(KIMI.model, KIMI.revision)
SHARD = f"{MODEL}/model-00001-of-00001.safetensors"


def stand(world: World) -> Cloud:
    """Make all of it; the environment leads to the world already."""
    cloud = connect(PROJECT)
    apis = [*look.APIS, *FOUNDATION_APIS]
    cloud.ask("POST", "services", f"projects/{PROJECT}/services:batchEnable", {"serviceIds": apis})
    for bucket in (STATE, WEIGHTS):
        wanted = {"name": bucket, "location": "us-central1", **BUCKET}
        cloud.storage.create_bucket(PROJECT, wanted)
    keep_engine(cloud)
    keep_state(cloud)
    keep_weights(cloud)
    make_key(cloud)
    grant(cloud)
    open_way(cloud)
    make_job(cloud)
    return cloud


def keep_engine(cloud: Cloud) -> None:
    wanted = releases.releases()
    for release in wanted:
        cloud.storage.put(STATE, names.ENGINE_PREFIX + release.archive, b"an archive")
    sums = {release.name: "0" * 64 for release in wanted}
    cloud.storage.put(STATE, names.ENGINE_MANIFEST, releases.manifest(wanted, sums))


def keep_state(cloud: Cloud) -> None:
    outputs = {"regions": ["us-central1"], "weights_bucket": WEIGHTS, "reaper_email": REAPER}
    stack = {"type": "pulumi:pulumi:Stack", "outputs": outputs}
    put_state(cloud, names.FOUNDATION, [stack])


def put_state(cloud: Cloud, stack: str, resources: list[dict[str, Any]]) -> None:
    state = {"version": 3, "checkpoint": {"latest": {"resources": resources}}}
    cloud.storage.put(STATE, names.stack_state(stack), json.dumps(state).encode())


def keep_weights(cloud: Cloud) -> None:
    """Of one shard; the engine in the profile's version."""
    cloud.storage.put(WEIGHTS, SHARD, b"a shard")
    (item,) = cloud.storage.list(WEIGHTS, f"{MODEL}/")
    file = {"name": SHARD.rpartition("/")[2], "size": int(item["size"]), "crc32c": item["crc32c"]}
    manifest = json.dumps({"format": 1, "files": [file]}).encode()
    cloud.storage.put(WEIGHTS, f"{MODEL}/{names.MANIFEST}", manifest)
    lock = (CHECKOUT / "startup/locks" / KIMI.engine.lock).read_bytes()
    engine = names.engine_prefix(names.engine_id(KIMI.engine.vllm, lock))
    cloud.storage.put(WEIGHTS, f"{engine}/{names.MANIFEST}", b"{}")


def make_key(cloud: Cloud) -> None:
    ring, _, key = KEY.partition("/cryptoKeys/")
    parent, _, name = ring.partition("/keyRings/")
    cloud.ask("POST", "kms", f"{parent}/keyRings?keyRingId={name}", {})
    wanted = {"purpose": "ENCRYPT_DECRYPT"}
    cloud.ask("POST", "kms", f"{ring}/cryptoKeys?cryptoKeyId={key}", wanted)


def grant(cloud: Cloud) -> None:
    """The reaper's account, with its rights on state and key."""
    account = {"accountId": REAPER.partition("@")[0]}
    cloud.ask("POST", "iam", f"projects/{PROJECT}/serviceAccounts", account)
    allow(cloud, "roles/storage.objectUser", "roles/cloudkms.cryptoKeyDecrypter")


def allow(cloud: Cloud, on_bucket: str, on_key: str) -> None:
    """These roles for the reaper's account, and no other."""
    held = cloud.ask("GET", "storage", f"b/{STATE}/iam")
    kept = [b for b in held.get("bindings", []) if f"serviceAccount:{REAPER}" not in b["members"]]
    policy = {"bindings": [*kept, binding(on_bucket)]}
    cloud.ask("PUT", "storage", f"b/{STATE}/iam", policy)
    policy = {"policy": {"bindings": [binding(on_key)]}}
    cloud.ask("POST", "kms", f"{KEY}:setIamPolicy", policy)


def binding(role: str) -> dict[str, Any]:
    return {"role": role, "members": [f"serviceAccount:{REAPER}"]}


def open_way(cloud: Cloud) -> None:
    base = f"projects/{PROJECT}/global"
    network = {"name": "mayfly", "autoCreateSubnetworks": False}
    cloud.ask("POST", "compute", f"{base}/networks", network)
    rule = {
        "name": "mayfly-iap-ssh",
        "network": f"{base}/networks/mayfly",
        "direction": "INGRESS",
        "sourceRanges": ["35.235.240.0/20"],
        "allowed": [{"IPProtocol": "tcp", "ports": ["22"]}],
    }
    cloud.ask("POST", "compute", f"{base}/firewalls", rule)


def make_job(cloud: Cloud) -> None:
    parent = JOB.rpartition("/jobs/")[0]
    target = {"uri": "https://reaper.example/", "httpMethod": "POST"}
    job = {"name": JOB, "schedule": "*/5 * * * *", "timeZone": "Etc/UTC", "httpTarget": target}
    cloud.ask("POST", "scheduler", f"{parent}/jobs", job)


def configure(checkout: Any) -> None:
    """The stacks' files, as init leaves them, with a price of today."""
    foundation = f"mayfly:regions: [us-central1]\n  mayfly:stateKey: {KEY}\n"
    (checkout / "Pulumi.foundation.yaml").write_text(f"config:\n  {foundation}")
    dev = (
        "mayfly:profile: kimi-k2.5\n  mayfly:machine: a3-highgpu-8g\n"
        "  mayfly:zone: us-central1-a\n  mayfly:provisioning: spot\n"
    )
    (checkout / "Pulumi.dev.yaml").write_text(f"config:\n  {dev}")
    os.environ["PULUMI_BACKEND_URL"] = f"gs://{STATE}"
