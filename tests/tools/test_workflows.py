"""What runs in CI: linted, pinned, with no more rights than it needs."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PINNED = re.compile(r"[\w./-]+@[0-9a-f]{40}")
ACTIONLINT = ROOT / ".venv/bin/actionlint"


def actionlint(*files: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ACTIONLINT, "-no-color", *files], capture_output=True, text=True, check=False, cwd=ROOT
    )


def parsed(path: Path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text())


def steps(workflow: dict[Any, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def unpinned(workflow: dict[Any, Any]) -> list[str]:
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    return [name for name in used if not PINNED.fullmatch(name)]


def writes(workflow: dict[Any, Any]) -> set[str]:
    """The rights to write, of the workflow and of each job."""
    holders = [workflow, *workflow["jobs"].values()]
    rights = [pair for holder in holders for pair in (holder.get("permissions") or {}).items()]
    return {name for name, level in rights if level != "read"}


def test_workflows_are_clean_when_actionlint_reads_them():
    """A workflow is tried only when it is too late."""
    done = actionlint(*WORKFLOWS)

    assert len(WORKFLOWS) == 2
    assert done.returncode == 0, done.stdout


def test_actionlint_turns_red_when_a_workflow_is_wrong(tmp_path):
    """The twin: a linter that does not run finds nothing."""
    bad = tmp_path / "bad.yml"
    bad.write_text(WORKFLOWS[0].read_text().replace("runs-on:", "run-on:"))

    assert actionlint(bad).returncode == 1


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(path):
    """A tag can be moved to somebody else's code, with our rights."""
    assert unpinned(parsed(path)) == []


def test_pin_check_turns_red_when_an_action_is_named_by_tag():
    """The twin."""
    workflow = {"jobs": {"a": {"steps": [{"uses": "actions/checkout@v6"}]}}}

    assert unpinned(workflow) == ["actions/checkout@v6"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflow_reads_only_when_nothing_else_is_needed(path):
    """A pull request's code runs here."""
    workflow = parsed(path)

    assert workflow["permissions"] == {"contents": "read"}
    assert writes(workflow) <= {"id-token", "pull-requests"}
    # YAML reads the key `on` as true.
    assert "pull_request_target" not in workflow[True]


def test_only_the_job_with_an_identity_may_write():
    """The job that forks reach gets no right at all."""
    jobs = parsed(ROOT / ".github/workflows/preview.yml")["jobs"]

    assert jobs["google"]["permissions"]["id-token"] == "write"
    assert "permissions" not in jobs["local"]


def test_preview_never_changes_anything_when_it_has_an_identity():
    """`up` with a pull request's code would run it with the project's rights."""
    jobs = parsed(ROOT / ".github/workflows/preview.yml")["jobs"]
    commands = {step.get("with", {}).get("command") for step in jobs["google"]["steps"]}

    assert commands == {None, "preview"}
    assert not [step for step in jobs["google"]["steps"] if "pulumi up" in step.get("run", "")]


def test_one_of_the_preview_jobs_runs_whoever_opens_the_pull_request():
    """Their conditions are each other's opposite."""
    jobs = parsed(ROOT / ".github/workflows/preview.yml")["jobs"]
    words = (
        "vars.MAYFLY_WORKLOAD_IDENTITY_PROVIDER {} '' {} "
        "github.event.pull_request.head.repo.full_name {} github.repository"
    )

    assert jobs["google"]["if"] == words.format("!=", "&&", "==")
    assert jobs["local"]["if"] == words.format("==", "||", "!=")


def test_ci_runs_the_command_of_the_readme():
    """What is green in CI is what a newcomer gets."""
    ran = [step.get("run") for step in steps(parsed(ROOT / ".github/workflows/test.yml"))]

    assert ".ci/run" in ran
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("exec make test")
    assert "make test" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_user_namespaces_are_allowed_before_the_local_cloud_needs_them(path):
    """Ubuntu 24.04 forbids them to the runner's user."""
    text = path.read_text()

    assert text.index("apparmor_restrict_unprivileged_userns=0") < max(
        text.find(".ci/run"), text.find("mayfly local up")
    )
