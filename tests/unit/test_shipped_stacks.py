"""The stack files that everybody gets with the checkout."""

import subprocess

from tests.conftest import ROOT

SHIPPED = [f"Pulumi.{stack}.yaml" for stack in ("ci", "dev", "foundation", "seed")]


def committed(*words: str) -> list[str]:
    """What git lists of the stack files as they are committed, or are about to be."""
    command = ["git", *words, "--", "Pulumi.*.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.stdout.split()


def test_stack_files_hold_no_salt_when_they_are_shipped():
    """`pulumi` writes one at its first use here; committed, it refuses everybody else's passphrase
    on their very first `pulumi up`."""
    assert committed("ls-files") == SHIPPED, "else nothing is looked at"
    assert committed("grep", "--cached", "-l", "^encryption") == []
