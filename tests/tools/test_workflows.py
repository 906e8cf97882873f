"""What runs in CI: linted, pinned, with no more rights than it needs."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
# Who may write what; a workflow that is not named here may write nothing.
WRITES = {
    "preview.yml": {"id-token", "pull-requests"},
    "dependencies.yml": {"contents", "pull-requests"},
    "release.yml": {"contents"},
}
PINNED = re.compile(r"[\w./-]+@[0-9a-f]{40}")
ACTIONLINT = ROOT / ".venv/bin/actionlint"


def actionlint(*files: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ACTIONLINT, "-no-color", *files], capture_output=True, text=True, check=False, cwd=ROOT
    )


def parsed(path: Path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text())


def steps(workflow: dict[Any, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job.get("steps", [])]


def unpinned(workflow: dict[Any, Any]) -> list[str]:
    """Neither by commit nor a workflow of ours, which is the commit that is run."""
    holders = [*workflow["jobs"].values(), *steps(workflow)]
    used = [holder["uses"] for holder in holders if "uses" in holder]
    return [name for name in used if not PINNED.fullmatch(name) and not name.startswith("./")]


def writes(workflow: dict[Any, Any]) -> set[str]:
    """The rights to write, of the workflow and of each job."""
    holders = [workflow, *workflow["jobs"].values()]
    rights = [pair for holder in holders for pair in (holder.get("permissions") or {}).items()]
    return {name for name, level in rights if level != "read"}


def test_workflows_are_clean_when_actionlint_reads_them():
    """A workflow is tried only when it is too late."""
    done = actionlint(*WORKFLOWS)

    assert len(WORKFLOWS) == 4
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
    assert writes(workflow) == WRITES.get(path.name, set())
    # YAML reads the key `on` as true.
    assert "pull_request_target" not in workflow[True]


def test_only_the_job_with_an_identity_may_write():
    """The job that forks reach gets no right at all."""
    jobs = parsed(ROOT / ".github/workflows/preview.yml")["jobs"]

    assert jobs["google"]["permissions"]["id-token"] == "write"
    assert "permissions" not in jobs["local"]


def test_job_that_may_write_runs_no_package_when_the_lock_is_upgraded():
    """A package that was taken over would push to the repository."""
    jobs = parsed(ROOT / ".github/workflows/dependencies.yml")["jobs"]
    writing = "\n".join(step.get("run", "") for step in jobs["propose"]["steps"])

    assert "permissions" not in jobs["upgrade"]
    assert not re.search(r"^\s*(make|python3?|pip|uv|\.ci/run)\b", writing, re.MULTILINE)
    assert "--include=requirements.lock" in writing


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_run_lasts_for_ever_or_beside_itself(path):
    """A hung local cloud would be billed by the minute."""
    workflow = parsed(path)
    jobs = [job for job in workflow["jobs"].values() if "steps" in job]

    assert workflow["concurrency"]["group"]
    assert [job for job in jobs if not 0 < job["timeout-minutes"] <= 60] == []
    checkouts = [s for s in steps(workflow) if s.get("uses", "").startswith("actions/checkout@")]
    assert [s for s in checkouts if s["with"]["persist-credentials"] is not False] == []


def test_release_waits_for_every_test():
    """A tag may point anywhere."""
    jobs = parsed(ROOT / ".github/workflows/release.yml")["jobs"]

    assert jobs["test"]["uses"] == "./.github/workflows/test.yml"
    assert jobs["release"]["needs"] == "test"


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


LOCAL = [path for path in WORKFLOWS if re.search(r"\.ci/run|mayfly local up", path.read_text())]


@pytest.mark.parametrize("path", LOCAL, ids=lambda path: path.name)
def test_user_namespaces_are_allowed_before_the_local_cloud_needs_them(path):
    """Ubuntu 24.04 forbids them to the runner's user."""
    text = path.read_text()

    assert len(LOCAL) == 3
    assert text.index("apparmor_restrict_unprivileged_userns=0") < max(
        text.find(".ci/run"), text.find("mayfly local up")
    )
