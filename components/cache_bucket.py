"""The bucket of compiled kernels: what is lost here costs two minutes of a start."""

import pulumi

from components.private_bucket import PrivateBucketArgs, private_bucket
from mayfly import names


class CacheBucket(pulumi.ComponentResource):
    """Kernel caches, kept for 90 days; a node may read and create here, never overwrite."""

    bucket: pulumi.Output[str]

    def __init__(
        self, name: str, project: str, region: str, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("mayfly:components:CacheBucket", name, None, opts)
        bucket = private_bucket(
            f"{name}-bucket",
            PrivateBucketArgs(
                project=project,
                bucket=names.bucket(project, "cache"),
                location=region,
                kept_deleted_s=0,
                delete_after_days=90,
                disposable=True,
            ),
            pulumi.ResourceOptions(parent=self),
        )
        self.bucket = bucket.name
        self.register_outputs({"bucket": self.bucket})
