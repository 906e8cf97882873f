"""What a session finds in the bucket, looked up before its VM costs anything."""

import pulumi
import pulumi_gcp as gcp

from components.foundation_outputs import FoundationOutputs
from components.vm_settings import engine_id
from mayfly import names
from mayfly.settings import NOTHING_DONE, VmSettings


def check(settings: VmSettings, found: FoundationOutputs, *, weights: bool) -> None:
    """RunError if the engine is not there, or the weights where they are needed.

    A manifest is the last thing that a seed writes. Who may make a VM but not list the bucket is
    warned and goes on: the VM looks again.
    """
    model, bucket = settings.profile, found.weights_bucket
    wanted = {
        "weights": names.model_prefix(model.model, model.revision),
        "engine": names.engine_prefix(engine_id(settings)),
    }
    if not weights:
        del wanted["weights"]
    for what, prefix in wanted.items():
        if not _is_there(bucket, f"{prefix}/{names.MANIFEST}"):
            raise pulumi.RunError(
                f"The bucket has no {what} for {model.name}: no gs://{bucket}/{prefix}/"
                f"{names.MANIFEST}.\n"
                f"{NOTHING_DONE}\nTry: mayfly seed {model.name}"
            )


def _is_there(bucket: str, name: str) -> bool:
    try:
        listed = gcp.storage.get_bucket_objects(bucket=bucket, prefix=name)
    except Exception as error:
        # The SDK raises a bare Exception here, whatever the provider said.
        pulumi.warn(f"Could not look whether gs://{bucket}/{name} is there: {error}")
        return True
    return any(found.name == name for found in listed.bucket_objects)
