"""The Google APIs that a project needs before anything else can be made."""

import pulumi
import pulumi_gcp as gcp

SERVICES = (
    "artifactregistry",
    "cloudbuild",
    "cloudfunctions",
    "cloudresourcemanager",
    "cloudscheduler",
    "compute",
    "iam",
    "iap",
    "run",
    "secretmanager",
    "storage",
)


class Apis(pulumi.ComponentResource):
    """Turns the APIs on and never off: others in the project may use them."""

    def __init__(self, name: str, project: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("mayfly:components:Apis", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        for service in SERVICES:
            gcp.projects.Service(
                f"{name}-{service}",
                project=project,
                service=f"{service}.googleapis.com",
                disable_on_destroy=False,
                opts=child,
            )
        self.register_outputs({})
