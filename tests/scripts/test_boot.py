"""boot.sh: the only part that metadata holds as it is, so it checks all the rest."""

import base64
import hashlib
import io
import json
import tarfile

import pytest

from startup import run
from startup import settings as settings_module
from tests.scripts.conftest import SETTINGS, STARTUP

TOLD = {
    **{name.removeprefix("MAYFLY_").lower(): value for name, value in SETTINGS.items()},
    "project": "p-1",
    "zone": "us-central1-a",
    "weights_bucket": "w",
    "cache_bucket": "c",
    "state_bucket": "s",
    "max_life_s": 14400,
    "idle_s": 1200,
    "start_s": 1800,
    "failed_s": 300,
    "heartbeat_s": 300,
    "model": "moonshotai/Kimi-K2.5",
    "revision": "a" * 40,
    "port": 8000,
    "mode": "fast",
    "serve_flags": ["--max-num-seqs", "8"],
    "safe_flags": [],
    "load_format": "safetensors",
    "kernel_caches": "1",
    "started_by": "o'neil@example.com",
}
RUN = """import os
given = os.environ
print("runs", given["MAYFLY_SESSION"], given["MAYFLY_SERVE_FLAGS"], given["PYTHONPATH"])
print("by", given["MAYFLY_STARTED_BY"])
"""


def archive() -> bytes:
    """The real settings.py with a runner that only tells what it was given."""
    files = {
        "startup/__init__.py": "",
        "startup/settings.py": (STARTUP / "settings.py").read_text(),
        "startup/mayfly-watchdog.service": (STARTUP / "mayfly-watchdog.service").read_text(),
        "startup/run.py": RUN,
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


@pytest.fixture
def made(machine):
    data = archive()
    machine.google.attributes = {
        "mayfly-archive": base64.b64encode(data).decode(),
        "mayfly-archive-sha256": hashlib.sha256(data).hexdigest(),
        "mayfly-settings": json.dumps(TOLD),
    }
    machine.stub("systemctl")
    return machine


def test_boot_starts_the_watchdog_before_the_stages_when_all_is_well(made, run_stage, phases):
    """From its first second on the machine must be able to end itself."""
    result = run_stage("boot.sh")

    assert result.returncode == 0, result.stdout + result.stderr
    assert made.calls("systemctl") == [
        "systemctl daemon-reload",
        "systemctl restart mayfly-watchdog.service",
    ]
    assert (made.root / "run/systemd/system/mayfly-watchdog.service").exists()
    assert f'runs dev ["--max-num-seqs", "8"] {made.root}/opt/mayfly' in result.stdout
    assert "by o'neil@example.com" in result.stdout
    assert [key for key, _ in made.google.published] == ["heartbeat", "phase"]
    assert phases() == ["booting"]


def test_boot_leaves_room_for_the_stages_when_it_hands_over(made, run_stage):
    """Its own files in /run/mayfly must not stand where the runner wants folders."""
    run_stage("boot.sh")

    stage = run.Stage("none", "none.sh", "booting", 9)

    assert run.run_layer([stage], STARTUP, lambda: None) == 1
    assert "stage none failed: exit status 127" in made.google.guest["message"]


def test_boot_takes_the_code_anew_when_it_runs_again(made, run_stage):
    """A file of an older archive must not live on."""
    run_stage("boot.sh")
    made.write("opt/mayfly/startup/old.py", "")

    assert run_stage("boot.sh").returncode == 0
    assert not (made.root / "opt/mayfly/startup/old.py").exists()


def test_boot_refuses_the_archive_when_its_hash_is_another(made, run_stage):
    """What runs as root is exactly what was sent, or nothing."""
    made.google.attributes["mayfly-archive-sha256"] = "0" * 64

    result = run_stage("boot.sh")

    assert result.returncode == 1
    assert "is not the one that was sent" in made.google.guest["message"]
    assert made.google.guest["phase"] == "failed"
    assert not (made.root / "opt/mayfly").exists()


@pytest.mark.parametrize("key", ["mayfly-archive", "mayfly-archive-sha256", "mayfly-settings"])
def test_boot_names_what_is_missing_when_the_metadata_lacks_it(made, run_stage, key):
    """Somebody started this VM by hand, without us."""
    del made.google.attributes[key]

    assert run_stage("boot.sh").returncode == 1
    assert key in made.google.guest["message"]
    assert made.google.guest["phase"] == "failed"


def test_boot_says_what_is_wrong_when_the_settings_cannot_be_used(made, run_stage):
    """Without limits the watchdog could not end anything."""
    made.google.attributes["mayfly-settings"] = json.dumps({**TOLD, "idle_s": "soon"})

    assert run_stage("boot.sh").returncode == 1
    assert "idle_s is 'soon'; it must be a number above 0" in made.google.guest["message"]
    assert made.calls("systemctl") == []


def test_boot_publishes_its_failure_when_systemd_refuses_the_watchdog(made, run_stage, stub):
    """A machine without a watchdog must not look as if it were starting."""
    stub("systemctl", exit_status=1)

    assert run_stage("boot.sh").returncode == 1
    assert "boot.sh stopped in line" in made.google.guest["message"]
    assert made.google.guest["phase"] == "failed"


def test_settings_name_every_problem_when_there_are_many():
    """One round trip to a machine at 50 dollars an hour is enough."""
    told = {"layer": "session", "Idle": 1, "idle_s": -1, "model": "a\nb"}

    found = settings_module.problems(told)

    assert "weights_uri is missing" in found
    assert "'Idle' cannot be a setting's name" in found
    assert "idle_s is -1; it must be a number above 0" in found
    assert "model holds a line break or a control character" in found


@pytest.mark.parametrize("told", [[], {}, {"layer": "foundation"}, None])
def test_settings_refuse_when_there_is_no_layer_of_ours(told):
    """A foundation has no VM."""
    assert settings_module.problems(told)


def test_settings_carry_the_endpoints_and_nothing_else_when_the_boot_had_them():
    """Units start with an empty environment, and the key must not travel by accident."""
    given = {
        "GCE_METADATA_HOST": "127.0.0.1:1",
        "GOOGLE_STORAGE_CUSTOM_ENDPOINT": "http://x/",
        "HF_ENDPOINT": "http://hub",
        "HF_TOKEN": "secret",
        "GOOGLE_OAUTH_ACCESS_TOKEN": "secret",
    }

    text = "\n".join(settings_module.lines({"idle_s": 5}, given))

    assert "secret" not in text
    assert text.splitlines()[0] == "MAYFLY_IDLE_S=5"
    assert "HF_ENDPOINT=http://hub" in text
