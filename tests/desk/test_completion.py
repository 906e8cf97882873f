"""What the shell completes, as the shell asks for it: fast, and without a word of failure."""

import os
import subprocess
import sys

import pytest

from mayfly import completion

HEAVY = ("requests", "rich", "yaml", "google.auth", "pulumi", "mayfly.cloud")


def asked(words: str, folder) -> list[str]:
    """What bash is offered after these words."""
    script = (
        "import sys; from mayfly.cli import main\n"
        "code = main([])\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    environment = {
        **os.environ,
        "_MAYFLY_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "[]", "a key press must not wait for an import"
    return done.stdout.split()


def test_completion_offers_the_checkouts_sessions(checkout):
    """The name that is typed most often."""
    for name in ("foundation", "dev", "deep", "night"):
        (checkout / f"Pulumi.{name}.yaml").write_text("config: {}\n")
    (checkout / "below").mkdir()

    assert asked("mayfly connect de", checkout) == ["deep", "dev"]
    assert asked("mayfly down ", checkout / "below") == ["deep", "dev", "night"]


def test_completion_offers_profiles_and_commands(checkout):
    """`plan ki<TAB>` is the first thing that a new user tries."""
    assert "kimi-k2.5" in asked("mayfly plan ki", checkout)
    assert {"ssh", "ssh-config", "seed"} <= set(asked("mayfly s", checkout))


@pytest.mark.parametrize("file", ["", "Pulumi.yaml"])
def test_completion_offers_nothing_when_there_is_nothing(tmp_path, monkeypatch, file):
    """A key press must never print an error into the line."""
    if file:
        (tmp_path / file).write_text("[")
    monkeypatch.chdir(tmp_path)

    assert completion.sessions("") == []


def test_completion_offers_nothing_when_the_folder_is_gone(tmp_path, monkeypatch):
    """Somebody else's `rm` must not break the prompt."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    assert completion.sessions("") == []


def test_completion_is_installed_where_the_shell_finds_it(tmp_path):
    """The flag is typer's own, behind defaults of ours."""
    environment = {**os.environ, "HOME": str(tmp_path), "SHELL": "/bin/bash"}
    words = [sys.executable, "-m", "mayfly.cli"]
    script = f"{' '.join(words)} --install-completion; {' '.join(words)} --show-completion; true"

    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True)

    assert "completion installed" in done.stdout
    assert "complete -o default -F _mayfly_completion mayfly" in done.stdout
    assert ".bash_completions/mayfly.sh" in (tmp_path / ".bashrc").read_text()
