"""The second layer of three that end a session: a function that looks every five minutes."""

from dataclasses import dataclass

import pulumi
import pulumi_gcp as gcp

from components import labels, reaper_source
from components.private_bucket import PrivateBucketArgs, private_bucket
from mayfly import names

TIMEOUT_S = 600
EVERY_S = 300
ATTEMPT_S = 630
"""Longer than the function may run, or a tick that still works would be called failed."""


@dataclass(frozen=True, kw_only=True)
class IdleReaperArgs:
    """foundation_stack: short name of the stack the reaper must never touch.

    build_account: full name, projects/P/serviceAccounts/E.
    """

    project: str
    region: str
    foundation_stack: str
    state_bucket: str
    reaper_email: pulumi.Input[str]
    scheduler_email: pulumi.Input[str]
    build_account: pulumi.Input[str]


class IdleReaper(pulumi.ComponentResource):
    """Deletes VMs whose time is over and destroys the stacks they leave.

    One instance and one request at a time: two reapers would fight over a stack's lock. Reached
    from inside Google only, by the scheduler's account only.
    """

    uri: pulumi.Output[str]
    job: pulumi.Output[str]

    def __init__(
        self, name: str, args: IdleReaperArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("mayfly:components:IdleReaper", name, None, opts)
        self._name, self._args = name, args
        self._child = pulumi.ResourceOptions(parent=self)
        function = self._function(self._source())
        self.uri = function.service_config.apply(lambda config: str(config and config.uri))
        invoker = gcp.cloudrunv2.ServiceIamMember(
            f"{name}-invoker",
            project=args.project,
            location=args.region,
            name=function.name,
            role="roles/run.invoker",
            member=pulumi.Output.concat("serviceAccount:", args.scheduler_email),
            opts=self._child,
        )
        self.job = self._job(invoker).name
        self.register_outputs({"uri": self.uri, "job": self.job})

    def _source(self) -> gcp.storage.BucketObject:
        bucket = private_bucket(
            f"{self._name}-source",
            PrivateBucketArgs(
                project=self._args.project,
                bucket=names.bucket(self._args.project, "source"),
                location=self._args.region,
                kept_deleted_s=0,
                disposable=True,
            ),
            self._child,
        )
        return gcp.storage.BucketObject(
            f"{self._name}-archive",
            name=reaper_source.object_name(),
            bucket=bucket.name,
            source=reaper_source.archive(),
            opts=self._child,
        )

    def _function(self, source: gcp.storage.BucketObject) -> gcp.cloudfunctionsv2.Function:
        args, v2 = self._args, gcp.cloudfunctionsv2
        return v2.Function(
            f"{self._name}-function",
            name=names.REAPER,
            project=args.project,
            location=args.region,
            description="Ends idle mayfly VMs and destroys the stacks they leave",
            build_config=v2.FunctionBuildConfigArgs(
                runtime="python312",
                entry_point="tick",
                service_account=args.build_account,
                source=v2.FunctionBuildConfigSourceArgs(
                    storage_source=v2.FunctionBuildConfigSourceStorageSourceArgs(
                        bucket=source.bucket, object=source.name
                    )
                ),
            ),
            service_config=v2.FunctionServiceConfigArgs(
                # Pulumi's engine and plugins unpack into /tmp, which is memory.
                available_memory="4Gi",
                available_cpu="2",
                timeout_seconds=TIMEOUT_S,
                max_instance_count=1,
                max_instance_request_concurrency=1,
                ingress_settings="ALLOW_INTERNAL_ONLY",
                service_account_email=args.reaper_email,
                environment_variables={
                    "MAYFLY_PROJECT": args.project,
                    "MAYFLY_STATE_BUCKET": args.state_bucket,
                    "MAYFLY_FOUNDATION_STACK": args.foundation_stack,
                },
            ),
            labels=labels.FOUNDATION,
            opts=self._child,
        )

    def _job(self, invoker: gcp.cloudrunv2.ServiceIamMember) -> gcp.cloudscheduler.Job:
        args, scheduler = self._args, gcp.cloudscheduler
        return scheduler.Job(
            f"{self._name}-job",
            name=names.REAPER,
            project=args.project,
            region=args.region,
            description="Wakes the mayfly reaper",
            schedule=f"*/{EVERY_S // 60} * * * *",
            time_zone="Etc/UTC",
            attempt_deadline=f"{ATTEMPT_S}s",
            # What a tick leaves, the next one finds; a retry would only run beside it.
            retry_config=scheduler.JobRetryConfigArgs(retry_count=0),
            http_target=scheduler.JobHttpTargetArgs(
                uri=self.uri,
                http_method="POST",
                oidc_token=scheduler.JobHttpTargetOidcTokenArgs(
                    service_account_email=args.scheduler_email, audience=self.uri
                ),
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[invoker]),
        )
