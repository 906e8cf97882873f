"""One binding, on any of the things that take one; always a single member, never a whole policy."""

import pulumi
import pulumi_gcp as gcp

from components.conditions import Condition


class Grants:
    """Makes member bindings under one parent. Other people's bindings on the same thing stay."""

    def __init__(self, name: str, project: str, opts: pulumi.ResourceOptions) -> None:
        self._name, self._project, self._opts = name, project, opts

    def on_project(
        self,
        key: str,
        role: pulumi.Input[str],
        member: pulumi.Input[str],
        condition: Condition | None = None,
    ) -> None:
        """role: in full, "roles/..." or a custom role's name."""
        gcp.projects.IAMMember(
            f"{self._name}-{key}",
            project=self._project,
            role=role,
            member=member,
            condition=gcp.projects.IAMMemberConditionArgs(
                title=condition.title, expression=condition.expression
            )
            if condition
            else None,
            opts=self._opts,
        )

    def on_bucket(
        self,
        key: str,
        bucket: pulumi.Input[str],
        role: str,
        member: pulumi.Input[str],
        condition: Condition | None = None,
    ) -> None:
        """role: without "roles/"."""
        gcp.storage.BucketIAMMember(
            f"{self._name}-{key}",
            bucket=bucket,
            role=f"roles/{role}",
            member=member,
            condition=gcp.storage.BucketIAMMemberConditionArgs(
                title=condition.title, expression=condition.expression
            )
            if condition
            else None,
            opts=self._opts,
        )

    def on_secret(self, key: str, secret: pulumi.Input[str], member: pulumi.Input[str]) -> None:
        """The right to read one secret."""
        gcp.secretmanager.SecretIamMember(
            f"{self._name}-{key}",
            project=self._project,
            secret_id=secret,
            role="roles/secretmanager.secretAccessor",
            member=member,
            opts=self._opts,
        )

    def on_account(self, key: str, account: pulumi.Input[str], member: pulumi.Input[str]) -> None:
        """The right to log into a VM that runs as this account."""
        gcp.serviceaccount.IAMMember(
            f"{self._name}-{key}",
            service_account_id=account,
            role="roles/iam.serviceAccountUser",
            member=member,
            opts=self._opts,
        )

    def on_key(self, key: str, crypto_key: str, member: pulumi.Input[str]) -> None:
        """The right to read what a KMS key has sealed."""
        gcp.kms.CryptoKeyIAMMember(
            f"{self._name}-{key}",
            crypto_key_id=crypto_key,
            role="roles/cloudkms.cryptoKeyDecrypter",
            member=member,
            opts=self._opts,
        )
