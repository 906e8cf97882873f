"""Every rule over every resource of the three layers, and each rule against what it must catch."""

import dataclasses
from typing import Any

import pytest

from tests.components import layers
from tests.components.mocks import Made, World
from tests.policy import rules

PROGRAMS = {
    "foundation": lambda: layers.foundation(
        members='["user:ann@example.com"]',
        regions='["us-central1", "us-east5"]',
        stateKey="projects/proj-1/locations/us/keyRings/r/cryptoKeys/k",
        hfTokenSecret="hub-token",
    ),
    "seed": layers.seed,
    "seed, spot": lambda: layers.seed(provisioning="spot"),
    "session": layers.session,
    "session, flex-start": lambda: layers.session(provisioning="flex-start"),
    "session, on demand": lambda: layers.session(provisioning="on-demand"),
    "session, A100": lambda: layers.session(machine="a2-ultragpu-8g", mode="long"),
}
OWNED_BY_A_VM_LAYER = {"Instance", "Command"}


@pytest.fixture(scope="module")
def worlds() -> dict[str, World]:
    return {name: program() for name, program in PROGRAMS.items()}


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_rule_holds_for_every_resource_of_every_layer(rule, worlds):
    """A rule that holds for most of them is no rule."""
    broken = [
        f"{name}: {made.type} {made.name}: {fault}"
        for name, world in worlds.items()
        for made in world.made
        if (fault := rule(made))
    ]

    assert not broken


def test_rules_see_the_resources_that_they_are_about(worlds):
    """A rule over nothing holds, too."""
    kinds = {made.kind for world in worlds.values() for made in world.made}

    assert {"Instance", "Bucket", "Firewall", "IAMMember", "Function", "Command"} <= kinds


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != "foundation"])
def test_seed_and_session_own_an_instance_and_a_wait_and_nothing_else(name, worlds):
    """What the reaper must be able to delete decides what it must be allowed to."""
    owned = {m.kind for m in worlds[name].made if not m.type.startswith("mayfly:")}

    assert owned == OWNED_BY_A_VM_LAYER


def test_no_secret_is_an_output_in_the_clear(worlds):
    """`pulumi stack output` ends up in logs."""
    for name, world in worlds.items():
        plain = " ".join(map(str, world.plain_outputs().values()))
        for secret in ("s3cret", layers.FOUNDATION["api_key"]):
            assert secret not in plain, name


def vm(**changed: Any) -> Made:
    """A GPU node as it should be, but for what is changed; "a.b" is b within a."""
    made = layers.session().one("Instance")
    return _changed(made, changed)


def of_foundation(kind: str, name: str = "", **changed: Any) -> Made:
    return _changed(layers.foundation().one(kind, name), changed)


def _changed(made: Made, changed: dict[str, Any]) -> Made:
    options = {key: changed.pop(key) for key in ("protect", "ignored") if key in changed}
    inputs = dict(made.inputs)
    for key, value in changed.items():
        outer, _, inner = key.partition("__")
        inputs[outer] = {**inputs[outer], inner: value} if inner else value
    return dataclasses.replace(made, inputs=inputs, **options)


def binding(role: str = "roles/run.invoker", member: str = "user:ann@example.com") -> Made:
    return Made(
        type="gcp:projects/iAMMember:IAMMember",
        name="b",
        inputs={"role": role, "member": member},
        protect=False,
        secret_outputs=(),
        ignored=(),
        replacing=(),
    )


BAD = [
    (rules.spot_ends_in_deletion, lambda: vm(scheduling__instanceTerminationAction="STOP")),
    (rules.every_vm_has_a_deadline, lambda: vm(scheduling__maxRunDuration={})),
    (rules.every_vm_has_a_deadline, lambda: vm(scheduling__maxRunDuration={"seconds": 2e7})),
    (rules.no_vm_restarts_by_itself, lambda: vm(scheduling__automaticRestart=True)),
    (rules.no_desired_status, lambda: vm(desiredStatus="RUNNING")),
    (rules.no_gpu_node_on_the_internet, lambda: vm(networkInterfaces=[{"accessConfigs": [{}]}])),
    (
        rules.nobody_comes_in_but_by_iap,
        lambda: of_foundation("Firewall", sourceRanges=["0.0.0.0/0"]),
    ),
    (
        rules.nobody_comes_in_but_by_iap,
        lambda: of_foundation("Firewall", allows=[{"protocol": "tcp"}]),
    ),
    (rules.nobody_comes_in_but_by_iap, lambda: of_foundation("Firewall", targetTags=[])),
    (
        rules.buckets_are_private,
        lambda: of_foundation("Bucket", "cache-bucket", publicAccessPrevention="inherited"),
    ),
    (
        rules.buckets_are_private,
        lambda: of_foundation("Bucket", "cache-bucket", uniformBucketLevelAccess=False),
    ),
    (
        rules.weights_outlive_mistakes,
        lambda: of_foundation("Bucket", "weights-bucket", protect=False),
    ),
    (
        rules.weights_outlive_mistakes,
        lambda: of_foundation("Bucket", "weights-bucket", forceDestroy=True),
    ),
    (
        rules.weights_outlive_mistakes,
        lambda: of_foundation("Bucket", "weights-bucket", softDeletePolicy={}),
    ),
    (rules.no_broad_role, lambda: binding(role="roles/editor")),
    (rules.no_broad_role, lambda: binding(role="roles/storage.admin")),
    (rules.no_broad_role, lambda: binding(role="roles/storage.objectAdmin")),
    (rules.no_public_member, lambda: binding(member="allUsers")),
    (
        rules.bindings_add_and_never_replace,
        lambda: dataclasses.replace(binding(), type="gcp:projects/iAMBinding:IAMBinding"),
    ),
    (rules.labels_are_slugs, lambda: vm(labels={"mayfly": "Session"})),
    (rules.labels_are_slugs, lambda: vm(labels={})),
    (rules.guest_attributes_are_on, lambda: vm(metadata={"enable-oslogin": "TRUE"})),
    (rules.boot_is_measured, lambda: vm(shieldedInstanceConfig={"enableVtpm": True})),
    (rules.no_vm_runs_as_the_default_account, lambda: vm(serviceAccount={})),
    (rules.image_changes_are_ignored, lambda: vm(ignored=())),
    (
        rules.commands_leave_no_trace_to_clean,
        lambda: of_foundation("Command", delete="rm -rf /"),
    ),
    (
        rules.functions_are_private,
        lambda: of_foundation("Function", serviceConfig__ingressSettings="ALLOW_ALL"),
    ),
]


@pytest.mark.parametrize(("rule", "bad"), BAD, ids=lambda each: getattr(each, "__name__", ""))
def test_rule_is_broken_when_a_resource_is_bad(rule, bad):
    """A rule that cannot turn red guards nothing."""
    assert rule(bad())


def test_every_rule_has_a_bad_case():
    """The twin of the list itself."""
    assert {rule for rule, _ in BAD} == set(rules.RULES)
