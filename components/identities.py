"""Who may do what: five accounts, each with the least that its work needs, and the members."""

import hashlib
from dataclasses import dataclass

import pulumi
import pulumi_gcp as gcp

from components import conditions
from components.grants import Grants
from mayfly import names

ACCOUNTS = {
    "node": "mayfly: serves a model",
    "seeder": "mayfly: brings weights into the bucket",
    "reaper": "mayfly: ends idle VMs and cleans their stacks",
    "scheduler": "mayfly: wakes the reaper",
    "build": "mayfly: builds the reaper",
}

# What `observe` and the books ask; the engine's refresh asks for a VM that is gone, and no more.
# Of operations there is one aggregated list, which reaches into all three kinds.
LOOK = (
    "compute.globalOperations.list",
    "compute.instances.get",
    "compute.instances.getGuestAttributes",
    "compute.instances.list",
    "compute.regionOperations.list",
    "compute.zoneOperations.list",
)
END = ("compute.instances.delete",)
# What a VM of ours says of itself: `status`, `connect` and `logs`. osLogin lets find it.
HEAR = ("compute.instances.getGuestAttributes", "compute.instances.getSerialPortOutput")


@dataclass(frozen=True, kw_only=True)
class IdentitiesArgs:
    """stack: the foundation's own, whose state the reaper must not touch.

    state_bucket: made by hand, before. state_key, hf_token_secret: "" where there is none.
    """

    project: str
    stack: str
    state_bucket: str
    state_key: str
    hf_token_secret: str
    members: tuple[str, ...]
    weights_bucket: pulumi.Input[str]
    cache_bucket: pulumi.Input[str]
    api_key_secret: pulumi.Input[str]


class Identities(pulumi.ComponentResource):
    """The accounts and every binding but the function's own invoker."""

    accounts: dict[str, gcp.serviceaccount.Account]

    def __init__(
        self, name: str, args: IdentitiesArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("mayfly:components:Identities", name, None, opts)
        self._name, self._args = name, args
        self._child = pulumi.ResourceOptions(parent=self)
        self._grants = Grants(name, args.project, self._child)
        self.accounts = {key: self._account(key, text) for key, text in ACCOUNTS.items()}
        self._grant_node()
        self._grant_seeder()
        self._grant_reaper()
        self._grant_build()
        if args.members:
            hear = self._role("hear", "mayflyMemberHear", "mayfly member: hear", HEAR)
            for member in args.members:
                self._grant_member(member, hear)
        self.register_outputs({key: made.email for key, made in self.accounts.items()})

    def email(self, key: str) -> pulumi.Output[str]:
        return self.accounts[key].email

    def _account(self, key: str, description: str) -> gcp.serviceaccount.Account:
        return gcp.serviceaccount.Account(
            f"{self._name}-{key}",
            account_id=f"mayfly-{key}",
            project=self._args.project,
            display_name=description,
            opts=self._child,
        )

    def _grant_node(self) -> None:
        args, node = self._args, self.accounts["node"].member
        grants = self._grants
        grants.on_bucket("node-weights", args.weights_bucket, "storage.objectViewer", node)
        # Viewer and creator, never user: a cache entry that a node could overwrite would run,
        # as compiled code, in the next session.
        grants.on_bucket("node-cache-read", args.cache_bucket, "storage.objectViewer", node)
        grants.on_bucket("node-cache-add", args.cache_bucket, "storage.objectCreator", node)
        grants.on_secret("node-key", args.api_key_secret, node)
        self._grant_leases("node", node)

    def _grant_seeder(self) -> None:
        args, seeder = self._args, self.accounts["seeder"].member
        self._grants.on_bucket("seeder-weights", args.weights_bucket, "storage.objectUser", seeder)
        if args.hf_token_secret:
            self._grants.on_secret("seeder-hf-token", args.hf_token_secret, seeder)
        self._grant_leases("seeder", seeder)

    def _grant_leases(
        self, key: str, member: pulumi.Input[str], role: str = "storage.objectViewer"
    ) -> None:
        bucket = self._args.state_bucket
        condition = conditions.only_objects("leases", f"{bucket}/objects/{names.LEASE_PREFIX}")
        self._grants.on_bucket(f"{key}-leases", bucket, role, member, condition)

    def _grant_reaper(self) -> None:
        args, reaper = self._args, self.accounts["reaper"].member
        look = self._role("look", "mayflyReaperLook", "mayfly reaper: look", LOOK)
        end = self._role("end", "mayflyReaperEnd", "mayfly reaper: end", END)
        # Two roles, because a list has no instance name that a condition could read.
        self._grants.on_project("reaper-look", look.name, reaper)
        self._grants.on_project("reaper-end", end.name, reaper, conditions.our_vms())
        bucket, grants = args.state_bucket, self._grants
        engine = f"{bucket}/objects/{names.ENGINE_PREFIX}"
        others = conditions.all_but_objects(
            "all-but-foundation", *conditions.foundation_objects(bucket, args.stack), engine
        )
        grants.on_bucket("reaper-state", bucket, "storage.objectUser", reaper, others)
        # What the reaper runs, it must not be able to write.
        grants.on_bucket(
            "reaper-engine",
            bucket,
            "storage.objectViewer",
            reaper,
            conditions.only_objects("engine", engine),
        )
        if args.state_key:
            grants.on_key("reaper-state-key", args.state_key, reaper)

    def _grant_build(self) -> None:
        project, build = self._args.project, self.accounts["build"].member
        sources = conditions.only_objects(
            "function-sources",
            f"{names.bucket(project, 'source')}/objects/",
            # Cloud Functions builds from its own copy, in a bucket that it names.
            "gcf-v2-sources-",
        )
        grants = self._grants
        grants.on_project("build-logs", "roles/logging.logWriter", build)
        grants.on_project("build-images", "roles/artifactregistry.writer", build)
        grants.on_project("build-sources", "roles/storage.objectViewer", build, sources)

    def _grant_member(self, member: str, hear: gcp.projects.IAMCustomRole) -> None:
        # Two addresses may have one slug; a few digits of their hash keep them apart.
        digest = hashlib.sha256(member.encode()).hexdigest()[:6]
        key, grants = f"member-{names.slug(member)}-{digest}", self._grants
        tunnel = "roles/iap.tunnelResourceAccessor"
        grants.on_project(f"{key}-tunnel", tunnel, member, conditions.ssh_port())
        grants.on_project(f"{key}-login", "roles/compute.osLogin", member)
        grants.on_project(f"{key}-hear", hear.name, member, conditions.our_vms())
        # `mayfly keep`: a longer lease replaces one that is there, which takes the right to delete.
        self._grant_leases(key, member, "storage.objectUser")
        grants.on_secret(f"{key}-key", self._args.api_key_secret, member)
        for account in ("node", "seeder"):
            grants.on_account(f"{key}-{account}", self.accounts[account].name, member)

    def _role(
        self, key: str, role_id: str, title: str, permissions: tuple[str, ...]
    ) -> gcp.projects.IAMCustomRole:
        return gcp.projects.IAMCustomRole(
            f"{self._name}-{key}",
            role_id=role_id,
            project=self._args.project,
            title=title,
            permissions=list(permissions),
            opts=self._child,
        )
