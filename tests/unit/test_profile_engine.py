"""Every shipped profile's flags before the stand-in engine: strict with flags, as the real one."""

import json
import os
import subprocess
import sys

import pytest

from mayfly import engine_flags, profile
from tests.conftest import ROOT

WHEELS = ROOT / "local/machine/guest/wheels"
PARSE = """
import json, sys
from vllm.arguments import parser
for flags in json.loads(sys.stdin.read()):
    parser().parse_args(["serve", "model", *flags])
"""


def parse(every: list[list[str]]) -> subprocess.CompletedProcess[str]:
    """All command lines in one process; it ends at the first that the engine refuses."""
    return subprocess.run(
        [sys.executable, "-c", PARSE],
        env={**os.environ, "PYTHONPATH": str(WHEELS)},
        input=json.dumps(every),
        capture_output=True,
        text=True,
    )


def test_engine_knows_every_flag_when_a_shipped_profile_is_served():
    """An unknown one ends the start with a usage message, on a rented machine."""
    every = [
        list(mode.flags)
        for name in profile.names()
        for modes in profile.load(name).machines.values()
        for mode in modes.values()
    ]
    done = parse(every)

    assert len(every) > 20
    assert done.returncode == 0, done.stderr


def test_engine_turns_red_when_a_flag_is_not_its_own():
    """The twin."""
    assert "unrecognized arguments: --turbo" in parse([["--turbo"]]).stderr


def test_profiles_may_hold_only_flags_that_the_engine_knows():
    """Two lists of one thing drift apart."""
    flags = []
    for flag, values in engine_flags.FLAGS["0.24.0"].items():
        if values == ():
            flags.append([flag])
        else:
            flags += [[f"{flag}={value}"] for value in values or ("1",)]
    done = parse(flags)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("flag", engine_flags.PLANNED)
def test_planned_flag_is_refused_in_a_profile_when_somebody_types_it(flag):
    """Two opinions on one flag, the later one winning unseen."""
    assert "The planner computes it" in engine_flags.problem(f"{flag}=1", "0.24.0")


def test_flags_are_not_judged_when_the_engines_version_is_unknown():
    """A newer engine has flags that this list does not know; the lock's test runs there."""
    assert engine_flags.problem("--turbo", "9.9.9") == ""
