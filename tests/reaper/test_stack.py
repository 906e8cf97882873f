"""Reading a stack's state: what it holds, and nothing else of it."""

import gzip
import json

import pytest

from reaper.stack import StateError, name_of, parse
from tests.reaper.world import checkpoint, readiness, resource, vm_resource


def test_state_names_the_vm_and_what_it_was_for():
    """A VM that lived and died between two runs is known from here only."""
    stack = parse("dev", checkpoint(vm_resource("42"), readiness()))

    machine = stack.machines[0]
    assert (machine.id, machine.name, machine.zone) == ("42", "mayfly-dev", "us-east5-a")
    assert machine.settings["hourly_usd"] == 36.0
    assert stack.leftovers == ("gcp:compute/instance:Instance", "command:local:Command")
    assert (stack.foreign, stack.protected, stack.has_pending) == ((), (), False)


def test_state_is_read_when_it_is_compressed():
    """PULUMI_DIY_BACKEND_GZIP is the user's choice."""
    assert parse("dev", gzip.compress(checkpoint(readiness()))).leftovers


def test_state_shows_a_create_that_was_cut_off():
    """The engine writes it down before it asks Google."""
    stack = parse("dev", checkpoint(pending=(vm_resource(""),)))

    assert stack.has_pending
    assert stack.machines[0].id == ""
    assert stack.machines[0].name == "mayfly-dev"


def test_engines_own_entries_are_nothing_to_destroy():
    """After a destroy the stack stays, empty: it is not destroyed every five minutes."""
    assert parse("dev", checkpoint()).leftovers == ()
    assert parse("dev", b'{"version": 3, "checkpoint": {"latest": null}}').leftovers == ()


def test_foreign_and_protected_resources_are_seen():
    """They are what tells a foundation from a session."""
    bucket = resource("gcp:storage/bucket:Bucket", "w", protect=True)

    stack = parse("x", checkpoint(bucket, readiness()))

    assert stack.foreign == ("gcp:storage/bucket:Bucket",)
    assert stack.protected == (bucket["urn"],)


def test_settings_that_are_secret_or_garbled_are_no_settings():
    """The engine wraps secrets in an object; they are none of the reaper's business."""
    vm = vm_resource("42")
    vm["inputs"]["metadata"] = {"4dabf18193072939515e22adb298388d": "x", "ciphertext": "y"}

    assert parse("dev", checkpoint(vm)).machines[0].settings == {}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{half",
        b"[]",
        b"null",
        b"{}",
        b'{"checkpoint": null}',
        b'{"checkpoint": {"latest": {"resources": [{}]}}}',
        b'{"checkpoint": {"latest": {"resources": "many"}}}',
        b"\x1f\x8b broken",
        json.dumps({"checkpoint": {"latest": {"pending_operations": [1]}}}).encode(),
    ],
)
def test_state_that_cannot_be_read_names_its_stack(data: bytes):
    """One broken object is one error line, not the end of the run."""
    with pytest.raises(StateError, match="stack dev: its state cannot be read"):
        parse("dev", data)


@pytest.mark.parametrize(
    ("object_name", "stack"),
    [
        (".pulumi/stacks/mayfly/dev.json", "dev"),
        (".pulumi/stacks/mayfly/dev.json.gz", "dev"),
        (".pulumi/stacks/mayfly/dev.json.bak", None),
        (".pulumi/stacks/mayfly/dev.json.gz.bak", None),
        (".pulumi/stacks/other/dev.json", None),
        (".pulumi/stacks/mayfly/dev.json.attrs", None),
    ],
)
def test_state_objects_are_told_from_their_backups(object_name: str, stack: str | None):
    """A backup read as a state would destroy what is long gone, again and again."""
    assert name_of(object_name) == stack
