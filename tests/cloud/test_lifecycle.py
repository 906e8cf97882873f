"""`python -m local`: up, down, serve; and that nothing stays behind, whatever ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import urllib3

from local.__main__ import main
from tests.cloud.test_children import alive
from tests.conftest import ROOT
from tests.running import running
from tests.waiting import wait_until

LOCAL = [sys.executable, "-P", "-m", "local"]
QUICK = ["--setting", "hub_mb=0"]
LIMIT_S = 60
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def env() -> dict[str, str]:
    return dict(os.environ) | {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cloud"


@pytest.fixture
def run(env: dict[str, str], directory: Path) -> Iterator[Run]:
    """`python -m local VERB --dir DIR ...`; whatever it left running is ended."""

    def call(verb: str, *words: str, at: Path = directory) -> subprocess.CompletedProcess[str]:
        command = [*LOCAL, verb, "--dir", str(at), *words]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT_S)

    yield call
    if directory.exists():
        call("down")


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """One that `up` started, for tests that only look: its directory and what was printed."""
    directory = tmp_path_factory.mktemp("standing") / "cloud"
    env = dict(os.environ) | {"PYTHONPATH": str(ROOT)}
    words = {"env": env, "capture_output": True, "text": True, "timeout": LIMIT_S}
    done = subprocess.run([*LOCAL, "up", "--dir", str(directory), *QUICK], **words)
    assert done.returncode == 0, done.stderr
    yield directory, done.stdout
    subprocess.run([*LOCAL, "down", "--dir", str(directory)], **words, check=True)


def processes(directory: Path) -> list[int]:
    """Everything that runs and names this directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and alive(int(entry.name)):
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(directory).encode() in words:
                found.append(int(entry.name))
    return found


def exported(text: str, env: dict[str, str]) -> dict[str, str]:
    """What a shell holds after it has sourced `text`."""
    script = f"{text}\nenv -0"
    out = subprocess.run(["sh", "-c", script], env=env, capture_output=True, check=True).stdout
    pairs = (line.partition("=") for line in out.decode().split("\0") if line)
    return {name: value for name, _, value in pairs}


def test_up_prints_exports_that_a_shell_can_source(
    standing: tuple[Path, str], env: dict[str, str]
) -> None:
    """The page's contract: local.json, PATH with the wrappers, every endpoint, the state bucket."""
    directory, printed = standing
    described = json.loads((directory / "local.json").read_text())
    shown = exported(printed, env)

    assert set(described) == {"pid", "exports", "urls", "project", "dir"}
    assert shown["PATH"] == f"{directory}/bin:{env['PATH']}"
    assert shown["PULUMI_BACKEND_URL"] == f"gs://{described['project']}-mayfly-state"
    assert shown["PULUMI_CONFIG_PASSPHRASE"] == ""
    assert "PULUMI_SKIP_CONFIRMATIONS" not in printed
    assert {p.name for p in (directory / "bin").iterdir()} == {
        "pulumi-resource-gcp",
        "pulumi-resource-command",
        "gcloud",
        "pulumi",
    }
    health = urllib3.request("GET", described["urls"]["api"] + "/_local/health").json()
    assert health == {"ok": True, "project": described["project"]}
    assert (described["pid"], described["dir"]) == (processes_of(directory), str(directory))


def processes_of(directory: Path) -> int:
    return int((directory / "lock").read_text())


def test_up_leaves_the_stand_ins_out_when_the_provider_is_real(run: Run, directory: Path) -> None:
    """With them on PATH the real plugins would never be asked."""
    done = run("up", "--provider", "real", *QUICK)

    assert 'export HTTPS_PROXY="http://127.0.0.1:9"' in done.stdout
    assert "PULUMI_HOME" not in done.stdout  # where the user's plugins lie
    assert {p.name for p in (directory / "bin").iterdir()} == {"gcloud", "pulumi"}


def test_up_puts_the_reaper_engine_into_the_state_bucket(run: Run, directory: Path) -> None:
    """It plays the user: without this the reaper has nothing to destroy with."""
    run("up", *QUICK)
    described = json.loads((directory / "local.json").read_text())
    bucket = f"{described['urls']['api']}/storage/v1/b/{described['project']}-mayfly-state"
    auth = {"Authorization": "Bearer fake"}

    read = urllib3.request("GET", f"{bucket}/o/engine%2Fmanifest.json?alt=media", headers=auth)
    manifest = read.json()
    listed = urllib3.request("GET", f"{bucket}/o?prefix=engine/", headers=auth).json()["items"]

    wanted = [manifest["pulumi"], *manifest["plugins"]]
    assert manifest["format"] == 1
    assert [p["name"] for p in manifest["plugins"]] == ["gcp", "command"]
    assert {f"engine/{a['archive']}" for a in wanted} < {o["name"] for o in listed}
    assert all(len(a["sha256"]) == 64 and a["version"] for a in wanted)


def test_up_says_so_and_prints_the_same_when_one_runs(run: Run, standing: tuple[Path, str]) -> None:
    """A second shell needs the same exports, not a second cloud."""
    directory, printed = standing
    pid = processes_of(directory)

    second = run("up", *QUICK, at=directory)

    assert second.stdout == printed
    assert "already runs" in second.stderr
    assert processes_of(directory) == pid


def test_down_leaves_nothing(run: Run, directory: Path) -> None:
    """No process, no directory; a second `down` is no error."""
    printed = run("up", *QUICK).stdout

    ended, again = run("down"), run("down")

    assert "is gone" in ended.stdout
    # pulumi, in a shell that still has them, would wait for minutes without a word.
    names = {line.partition("=")[0].split()[1] for line in printed.splitlines()} - {"PATH"}
    unset = ended.stdout.partition("open a new one, or run:")[2].split()
    assert (unset[0], set(unset[1:])) == ("unset", names)
    assert (again.returncode, "No local cloud" in again.stdout) == (0, True)
    assert not directory.exists()
    assert not processes(directory)


def test_up_leaves_nothing_when_it_is_interrupted(env: dict[str, str], directory: Path) -> None:
    """Ctrl-C while it starts: what runs by then is in a session of its own and would stay."""
    command = [*LOCAL, "up", "--dir", str(directory), *QUICK]
    with running(command, env=env) as starting:
        wait_until((directory / "lock").exists, limit_s=LIMIT_S)
        starting.send_signal(signal.SIGINT)
        starting.wait(LIMIT_S)

    assert starting.returncode == 130
    assert not directory.exists()
    assert not processes(directory)


def test_up_starts_anew_when_the_last_one_was_killed(run: Run, directory: Path) -> None:
    """A crash leaves files; they must not stand for a running cloud."""
    run("up", *QUICK)
    os.kill(processes_of(directory), signal.SIGKILL)
    wait_until(lambda: not processes(directory), limit_s=15)

    again = run("up", *QUICK)

    assert again.returncode == 0
    assert "already runs" not in again.stderr


BAD = {
    "unknown setting": (["--setting", "speed=2"], "unknown setting 'speed'"),
    "no value": (["--setting", "hub_mb"], "'hub_mb' is not name=value"),
    "no pattern": (["--setting", "capacity=nowhere"], "setting capacity: no pattern 'nowhere'"),
    "not a number": (["--setting", "hub_mb=-1"], "setting hub_mb"),
    "too small": (["--setting", "hub_mb=4"], "hub_mb: 4 is neither 0 nor 16 or more"),
}


@pytest.mark.parametrize("case", BAD)
def test_up_starts_nothing_when_a_setting_is_wrong(
    directory: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One message, exit 2, and no trace."""
    words, text = BAD[case]

    status = main(["up", "--dir", str(directory), *words])

    printed = capsys.readouterr()
    assert (status, printed.out) == (2, "")
    assert text in printed.err
    assert "Nothing was started." in printed.err
    assert not directory.exists()


def test_down_clears_what_the_engine_made_anew_after_the_cloud_was_gone(
    run: Run, tmp_path: Path
) -> None:
    """A shell that still has the exports brings PULUMI_HOME back; that must not block the next."""
    left = tmp_path / "local/pulumi/logs"
    left.mkdir(parents=True)

    done = run("down", at=tmp_path / "local")

    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "local").exists()


def test_up_and_down_refuse_a_directory_of_somebody_else(run: Run, tmp_path: Path) -> None:
    """`down` removes its directory: never the user's own."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("all of it")

    for verb in ("up", "down"):
        done = run(verb, at=mine)
        assert done.returncode == 2
        assert "holds no local cloud" in done.stderr
    assert (mine / "thesis.tex").exists()


def test_up_says_what_to_do_when_the_engine_is_missing(
    run: Run, env: dict[str, str], directory: Path
) -> None:
    """The first thing a new user meets."""
    env["MAYFLY_PULUMI"] = "/nonexistent/pulumi"

    done = run("up", *QUICK)

    assert done.returncode == 1
    assert done.stderr.strip() == "MAYFLY_PULUMI names /nonexistent/pulumi, which is no program."
    assert not directory.exists()


@pytest.fixture
def served(env: dict[str, str], directory: Path) -> Iterator[subprocess.Popen[str]]:
    """`serve` in the foreground, ready."""
    with running(
        [*LOCAL, "serve", "--dir", str(directory), *QUICK],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        wait_until((directory / "local.json").exists, limit_s=LIMIT_S)
        yield process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_serve_leaves_nothing_when_it_is_told_to_end(
    served: subprocess.Popen[str], directory: Path, number: signal.Signals
) -> None:
    """Ctrl-C in the demo is SIGINT here."""
    served.send_signal(number)

    _, errors = served.communicate(timeout=LIMIT_S)

    assert (served.returncode, errors) == (0, "")
    assert not directory.exists()
    assert not processes(directory)


PARENT = """
import subprocess, sys, time
subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
time.sleep(300)
"""


def test_serve_leaves_nothing_when_its_parent_is_killed(
    env: dict[str, str], directory: Path
) -> None:
    """The demo may be killed in any way; a forgotten cloud would eat the machine."""
    command = [*LOCAL, "serve", "--dir", str(directory), *QUICK]
    with running([sys.executable, "-c", PARENT, *command], env=env) as parent:
        wait_until((directory / "local.json").exists, limit_s=LIMIT_S)

        parent.kill()

    wait_until(lambda: not directory.exists() and not processes(directory), limit_s=20)


def test_serve_refuses_a_directory_where_one_runs(
    served: subprocess.Popen[str], run: Run, directory: Path
) -> None:
    """Two clouds in one directory would remove each other's files."""
    second = run("serve", *QUICK)

    assert second.returncode == 1
    assert "already runs" in second.stderr
    assert (directory / "local.json").exists()
