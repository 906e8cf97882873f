"""Google's predefined roles, as far as a project like ours may name them.

Google refuses a binding of a role it does not know; so do we. A role that exists at Google and is
missing here belongs into this list.
"""

from __future__ import annotations

import re

BASIC = ("owner", "editor", "viewer", "browser")
# Who holds one of these on the project is this member, too: in policies of buckets.
CONVENIENCE = {
    "roles/owner": "projectOwner",
    "roles/editor": "projectEditor",
    "roles/viewer": "projectViewer",
}
PREDEFINED = {
    "artifactregistry": "admin createOnPushWriter reader repoAdmin writer",
    "billing": "admin costsManager user viewer projectManager",
    "cloudbuild.builds": "builder editor viewer approver",
    "cloudfunctions": "admin developer invoker serviceAgent viewer",
    "cloudkms": "admin cryptoKeyDecrypter cryptoKeyEncrypter cryptoKeyEncrypterDecrypter "
    "publicKeyViewer viewer",
    "cloudquotas": "admin viewer",
    "cloudscheduler": "admin jobRunner serviceAgent viewer",
    "compute": "admin imageUser instanceAdmin instanceAdmin.v1 loadBalancerAdmin networkAdmin "
    "networkUser "
    "networkViewer osAdminLogin osLogin osLoginExternalUser securityAdmin serviceAgent "
    "storageAdmin viewer",
    "consumerprocurement": "entitlementViewer",
    "eventarc": "admin eventReceiver viewer",
    "iam": "roleAdmin roleViewer securityAdmin securityReviewer serviceAccountAdmin "
    "serviceAccountCreator "
    "serviceAccountDeleter serviceAccountKeyAdmin serviceAccountOpenIdTokenCreator "
    "serviceAccountTokenCreator "
    "serviceAccountUser serviceAccountViewer workloadIdentityPoolAdmin workloadIdentityUser",
    "iap": "admin httpsResourceAccessor settingsAdmin tunnelDestGroupViewer tunnelResourceAccessor",
    "logging": "admin bucketWriter configWriter logWriter privateLogViewer viewer viewAccessor",
    "monitoring": "admin editor metricWriter viewer alertPolicyEditor notificationChannelEditor",
    "pubsub": "admin editor publisher subscriber viewer",
    "recommender": "computeViewer viewer",
    "resourcemanager": "projectCreator projectDeleter projectIamAdmin projectMover tagUser "
    "tagViewer",
    "run": "admin builder developer invoker serviceAgent servicesInvoker sourceDeveloper "
    "sourceViewer viewer",
    "secretmanager": "admin secretAccessor secretVersionAdder secretVersionManager viewer",
    "servicemanagement": "quotaAdmin quotaViewer",
    "serviceusage": "apiKeysAdmin serviceUsageAdmin serviceUsageConsumer serviceUsageViewer",
    "storage": "admin bucketViewer folderAdmin hmacKeyAdmin legacyBucketOwner legacyBucketReader "
    "legacyBucketWriter legacyObjectOwner legacyObjectReader objectAdmin objectCreator "
    "objectUser objectViewer",
    "tpu": "admin viewer",
    "vpcaccess": "admin user viewer",
}
CUSTOM = re.compile(r"(projects|organizations)/[^/]+/roles/[a-zA-Z0-9_.]{3,64}")
KNOWN = frozenset(f"roles/{name}" for name in BASIC) | frozenset(
    f"roles/{service}.{name}" for service, names in PREDEFINED.items() for name in names.split()
)


def is_custom(role: str) -> bool:
    return CUSTOM.fullmatch(role) is not None
