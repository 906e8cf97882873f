"""What every bucket of ours has in common: nothing in it can be made public."""

from dataclasses import dataclass

import pulumi
import pulumi_gcp as gcp

from components import labels


@dataclass(frozen=True, kw_only=True)
class PrivateBucketArgs:
    """location: a region, where the readers are.

    kept_deleted_s: seconds that a deleted object can be brought back; 0 or 604 800 (7 days) and up.
    delete_after_days: objects older than this are deleted; None keeps them.
    disposable: True lets `pulumi destroy` delete a bucket that holds objects.
    """

    project: str
    bucket: str
    location: str
    kept_deleted_s: int
    delete_after_days: int | None = None
    disposable: bool = False


def private_bucket(
    name: str, args: PrivateBucketArgs, opts: pulumi.ResourceOptions
) -> gcp.storage.Bucket:
    """A bucket that only IAM opens, and that sweeps up after interrupted uploads."""
    return gcp.storage.Bucket(
        name,
        name=args.bucket,
        project=args.project,
        # Google answers in capitals; another spelling would read as a replacement.
        location=args.location.upper(),
        uniform_bucket_level_access=True,
        public_access_prevention="enforced",
        force_destroy=args.disposable,
        soft_delete_policy=gcp.storage.BucketSoftDeletePolicyArgs(
            retention_duration_seconds=args.kept_deleted_s
        ),
        lifecycle_rules=_lifecycle(args),
        labels=labels.FOUNDATION,
        opts=opts,
    )


def _lifecycle(args: PrivateBucketArgs) -> list[gcp.storage.BucketLifecycleRuleArgs]:
    rules = [_rule("AbortIncompleteMultipartUpload", 2)]
    if args.delete_after_days is not None:
        rules.append(_rule("Delete", args.delete_after_days))
    return rules


def _rule(action: str, age_days: int) -> gcp.storage.BucketLifecycleRuleArgs:
    return gcp.storage.BucketLifecycleRuleArgs(
        action=gcp.storage.BucketLifecycleRuleActionArgs(type=action),
        condition=gcp.storage.BucketLifecycleRuleConditionArgs(age=age_days),
    )
