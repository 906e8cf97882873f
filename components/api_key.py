"""The endpoint's key: made once, kept in Secret Manager, shown nowhere."""

import pulumi
import pulumi_command as command
import pulumi_gcp as gcp

from components import labels
from mayfly import names

MAKE_KEY = "head -c 32 /dev/urandom | base64 | tr -d '=\\n' | tr '+/' '-_'"
"""256 random bits in the 43 characters of base64url; the same on Linux and macOS."""


class ApiKey(pulumi.ComponentResource):
    """A random key that stays the same until `pulumi up --target-replace` on its command."""

    value: pulumi.Output[str]
    secret: pulumi.Output[str]

    def __init__(self, name: str, project: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("mayfly:components:ApiKey", name, None, opts)
        made = command.local.Command(
            f"{name}-make",
            create=MAKE_KEY,
            # The provider would print the key into the terminal and the update's log.
            logging=command.local.Logging.NONE,
            opts=pulumi.ResourceOptions(
                parent=self,
                additional_secret_outputs=["stdout"],
                # Another way to make keys must not change the key that is in use.
                ignore_changes=["create"],
            ),
        )
        secret = gcp.secretmanager.Secret(
            f"{name}-secret",
            project=project,
            secret_id=names.API_KEY_SECRET,
            replication=gcp.secretmanager.SecretReplicationArgs(
                auto=gcp.secretmanager.SecretReplicationAutoArgs()
            ),
            labels=labels.FOUNDATION,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.value = pulumi.Output.secret(made.stdout)
        version = gcp.secretmanager.SecretVersion(
            f"{name}-version",
            secret=secret.id,
            secret_data=self.value,
            opts=pulumi.ResourceOptions(parent=self),
        )
        # By way of the version: who reads the secret must find something in it.
        self.secret = pulumi.Output.all(secret.id, version.id).apply(lambda ids: str(ids[0]))
        self.register_outputs({"value": self.value, "secret": self.secret})
