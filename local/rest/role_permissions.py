"""What Google's predefined roles hold, for the roles that our bindings and buckets name.

From Google's own answers to `roles.get`, as recorded in iann0036/iam-dataset (gcp/roles/*.json,
read 2026-11-23). A role that is missing here grants nothing: add it from `gcloud iam roles
describe`, never from memory. Permissions that no method here asks for are kept: the lists are
Google's, whole, with one exception: artifactregistry.writer's, cut to what a build pushes with.
"""

from __future__ import annotations

from local.rest.words import words

PROJECT = "resourcemanager.projects.get resourcemanager.projects.list "
HELD: dict[str, frozenset[str]] = {
    role: frozenset(words(PROJECT + text if reads_project else text))
    for role, reads_project, text in (
        (
            "roles/artifactregistry.writer",
            False,
            "artifactregistry.repositories.downloadArtifacts artifactregistry.repositories.get "
            "artifactregistry.repositories.list artifactregistry.repositories.uploadArtifacts",
        ),
        (
            "roles/cloudkms.cryptoKeyDecrypter",
            False,
            "cloudkms.cryptoKeyVersions.useToDecrypt cloudkms.locations.get "
            "cloudkms.locations.list resourcemanager.projects.get",
        ),
        (
            "roles/compute.osLogin",
            True,
            "compute.disks.listTagBindings compute.images.listTagBindings compute.instances.get "
            "compute.instances.list compute.instances.osLogin compute.projects.get "
            "compute.snapshots.listTagBindings serviceusage.quotas.get serviceusage.services.get "
            "serviceusage.services.list",
        ),
        (
            "roles/iam.serviceAccountUser",
            True,
            "iam.serviceAccounts.actAs iam.serviceAccounts.get iam.serviceAccounts.list",
        ),
        (
            "roles/iap.tunnelResourceAccessor",
            False,
            "iap.tunnelDestGroups.accessViaIAP iap.tunnelInstances.accessViaIAP",
        ),
        ("roles/logging.logWriter", False, "logging.logEntries.create"),
        ("roles/run.invoker", False, "run.routes.invoke"),
        ("roles/secretmanager.secretAccessor", True, "secretmanager.versions.access"),
        (
            "roles/storage.objectCreator",
            True,
            "orgpolicy.policy.get storage.folders.create storage.managedFolders.create "
            "storage.multipartUploads.abort storage.multipartUploads.create "
            "storage.multipartUploads.listParts storage.objects.create "
            "storage.objects.createContext",
        ),
        (
            "roles/storage.objectUser",
            True,
            "orgpolicy.policy.get storage.folders.create storage.folders.delete "
            "storage.folders.get storage.folders.list storage.folders.rename "
            "storage.managedFolders.create storage.managedFolders.delete "
            "storage.managedFolders.get storage.managedFolders.list "
            "storage.multipartUploads.abort storage.multipartUploads.create "
            "storage.multipartUploads.list storage.multipartUploads.listParts "
            "storage.objects.create storage.objects.delete storage.objects.get "
            "storage.objects.list storage.objects.move storage.objects.restore "
            "storage.objects.update",
        ),
        (
            "roles/storage.objectViewer",
            True,
            "storage.folders.get storage.folders.list storage.managedFolders.get "
            "storage.managedFolders.list storage.objects.get storage.objects.list",
        ),
    )
}
