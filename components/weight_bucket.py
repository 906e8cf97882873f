"""The bucket that outlives every session: weights, engines, drivers."""

import pulumi

from components.private_bucket import PrivateBucketArgs, private_bucket
from mayfly import names

WEEK_S = 604_800


class WeightBucket(pulumi.ComponentResource):
    """Weights in the region that reads them. Protected: it costs an hour of seeding to refill.

    `pulumi destroy` refuses at its preview until `pulumi state unprotect` says otherwise.
    """

    bucket: pulumi.Output[str]

    def __init__(
        self, name: str, project: str, region: str, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("mayfly:components:WeightBucket", name, None, opts)
        bucket = private_bucket(
            f"{name}-bucket",
            PrivateBucketArgs(
                project=project,
                bucket=names.bucket(project, "weights"),
                location=region,
                kept_deleted_s=WEEK_S,
            ),
            pulumi.ResourceOptions(parent=self, protect=True),
        )
        self.bucket = bucket.name
        self.register_outputs({"bucket": self.bucket})
