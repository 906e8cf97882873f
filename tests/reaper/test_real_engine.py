"""The reaper's function as it is deployed, over HTTP, with the real engine on a gs:// state."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from components import reaper_source
from local.children import free_port
from local.cloud import LocalCloud, Options
from local.rest.compute.life import Life
from local.tools_found import pulumi
from mayfly.cloud import Cloud, connect
from mayfly.ledger import from_json
from tests.conftest import ROOT
from tests.reaper.world import ZONE, serving
from tests.waiting import wait_until

LIMIT_S = 120.0


class Here:
    """A local cloud with one project, and the means to start sessions and the function in it."""

    def __init__(self, local: LocalCloud, folder: Path) -> None:
        self.local, self.folder = local, folder
        described = local.describe()
        self.project = described["project"]
        self.bucket = f"{self.project}-mayfly-state"
        self.env = {
            **os.environ,
            **described["exports"],
            "PATH": f"{local.directory}/bin:{pulumi().parent}:{os.environ['PATH']}",
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def cloud(self) -> Cloud:
        os.environ.update({k: v for k, v in self.env.items() if k.startswith("GOOGLE_")})
        return connect(self.project)

    def launch(self, *words: str) -> subprocess.Popen[bytes]:
        """Start bringing a session up, in a process of its own."""
        log = (self.folder / f"launch-{words[0]}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.reaper.launch", *words],
            cwd=ROOT,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        log.close()
        self.processes.append(process)
        return process

    def up(self, *words: str) -> None:
        """Bring a session up."""
        code = self.launch(*words).wait(LIMIT_S)
        assert code == 0, (self.folder / f"launch-{words[0]}.log").read_text()

    def vm_id(self, session: str) -> str:
        found = self.cloud().compute.instance(ZONE, f"mayfly-{session}")
        assert found is not None
        return str(found["id"])

    def says(self, vm_id: str, attributes: dict[str, str]) -> None:
        """The VM's own words."""
        for key, value in attributes.items():
            self.local.world.of(Life).guest_wrote(vm_id, f"mayfly/{key}", value)

    def resources(self, stack: str) -> list[str]:
        """Types in the stack's state, what is pending included."""
        blob = self.cloud().storage.get(self.bucket, f".pulumi/stacks/mayfly/{stack}.json")
        assert blob is not None
        latest = json.loads(blob.data)["checkpoint"].get("latest") or {}
        pending = [entry["resource"] for entry in latest.get("pending_operations") or []]
        return [found["type"] for found in [*(latest.get("resources") or []), *pending]]

    def history(self, stack: str) -> list[str]:
        """Kinds of the stack's updates, oldest first."""
        cloud = self.cloud()
        listed = cloud.storage.list(self.bucket, f".pulumi/history/mayfly/{stack}/")
        names = sorted(i["name"] for i in listed if i["name"].endswith(".history.json"))
        blobs = [cloud.storage.get(self.bucket, name) for name in names]
        return [json.loads(blob.data)["kind"] for blob in blobs if blob is not None]

    @contextmanager
    def function(self, **more: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
        """The function's source archive, unpacked and served: its address and its process."""
        source = self.folder / f"function-{len(self.processes)}"
        for name, path in reaper_source.files().items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, source / name)
        port = free_port()
        env = {name: value for name, value in self.env.items() if name.startswith("GOOGLE_")}
        env |= {
            "STORAGE_EMULATOR_HOST": self.env["STORAGE_EMULATOR_HOST"],
            "GCE_METADATA_HOST": self.env["GCE_METADATA_HOST"],
            "PATH": os.defpath,
            "TMPDIR": str(self.folder),
            "MAYFLY_PROJECT": self.project,
            "MAYFLY_STATE_BUCKET": self.bucket,
            "MAYFLY_FOUNDATION_STACK": "foundation",
            **more,
        }
        main = ROOT / "local/rest/function_main.py"
        command = [sys.executable, "-I", str(main), str(ROOT), str(port)]
        with (source / "log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=source,
                env={**env, "FUNCTION_TARGET": "tick"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        url = f"http://127.0.0.1:{port}/"
        try:
            wait_until(lambda: answers(url) or process.poll() is not None, LIMIT_S)
            assert process.poll() is None, (source / "log").read_text()
            yield url, process
        finally:
            process.kill()
            process.wait()


def answers(url: str) -> bool:
    """Whether the function is there; a robots.txt is answered by the framework, not by it."""
    try:
        return requests.get(url + "robots.txt", timeout=5).status_code < 500
    except requests.RequestException:
        return False


def tick(url: str) -> dict[str, Any]:
    """One call, with a body that must not matter."""
    answer = requests.post(url, json={"delete": "everything"}, timeout=LIMIT_S)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    folder = tmp_path_factory.mktemp("reaper")
    (folder / "cloud").mkdir()
    before = dict(os.environ)
    local = LocalCloud(Options(directory=folder / "cloud"))
    made = Here(local, folder)
    try:
        enable = f"projects/{made.project}/services/compute.googleapis.com:enable"
        made.cloud().ask("POST", "services", enable, {})
        yield made
    finally:
        for process in made.processes:
            process.kill()
            process.wait()
        local.stop()
        os.environ.clear()
        os.environ.update(before)


def test_function_takes_an_idle_session_away_and_leaves_its_record(here: Here):
    """Everything as deployed: archive, framework, engine, plugins, state bucket, ledger."""
    here.up("idle")
    vm_id = here.vm_id("idle")
    here.says(vm_id, serving(idle_s=1300))

    with here.function() as (url, _):
        report = tick(url)
        again = tick(url)

    assert report["errors"] == []
    assert report["deleted"] == ["mayfly-idle"]
    assert report["destroyed"] == ["idle"]
    assert report["ledger"] == [vm_id]
    assert here.cloud().compute.instance(ZONE, "mayfly-idle") is None
    assert here.resources("idle") == []
    assert here.history("idle") == ["update", "destroy"]
    blob = here.cloud().storage.get(here.bucket, f"ledger/{vm_id}.json")
    assert blob is not None
    record = from_json(blob.data, vm_id)
    assert record.ended_by == "reaper"
    assert record.reason.startswith("idle for ")
    assert record.seconds > 0
    assert record.usd is not None
    assert record.usd > 0
    assert (again["deleted"], again["destroyed"], again["ledger"]) == ([], [], [])


def test_function_cleans_up_after_an_up_that_was_killed_while_it_created(here: Here):
    """The laptop dies in its first `up`: VM outside the state, a create pending, a lock."""
    here.local.world.change_settings({"operation_s": 3600})
    launching = here.launch("cut")
    vm_id = wait_until(
        lambda: (here.cloud().compute.instance(ZONE, "mayfly-cut") or {}).get("id"), LIMIT_S
    )
    engine = wait_until(lambda: lock_of(here, "cut"), LIMIT_S)["pid"]
    os.kill(engine, signal.SIGKILL)
    launching.wait(LIMIT_S)
    here.local.world.change_settings({"operation_s": 0})
    assert "gcp:compute/instance:Instance" in here.resources("cut")
    here.says(vm_id, {**serving(), "phase": "ended", "message": "idle for 20 min"})

    with here.function() as (url, _):
        first = tick(url)
    with here.function(MAYFLY_STALE_LOCK_S="0.1") as (url, _):
        second = tick(url)

    assert first["deleted"] == ["mayfly-cut"]
    assert [(p["stack"], p["reason"][:9]) for p in first["postponed"]] == [("cut", "locked by")]
    assert second["destroyed"] == ["cut"]
    assert here.resources("cut") == []
    assert lock_of(here, "cut") is None


def lock_of(here: Here, stack: str) -> Any:
    """The stack's lock, as the engine wrote it; None when it is free."""
    cloud = here.cloud()
    for item in cloud.storage.list(here.bucket, f".pulumi/locks/organization/mayfly/{stack}/"):
        blob = cloud.storage.get(here.bucket, item["name"])
        return json.loads(blob.data) if blob is not None else None
    return None


def test_function_killed_in_mid_destroy_is_resumed_by_the_next(here: Here, tmp_path: Path):
    """The platform takes an instance away whenever it likes; an hour's lock would stay."""
    flag = tmp_path / "flag"
    here.up("resumed", f"test -e {flag} || /bin/sleep 60")
    cloud = here.cloud()
    cloud.compute.delete_instance(ZONE, here.vm_id("resumed"))

    with here.function(MAYFLY_TICK_S="9") as (url, process):
        asking = subprocess.Popen(
            [sys.executable, "-c", "import sys, requests; requests.post(sys.argv[1])", url],
            stderr=subprocess.DEVNULL,
        )
        here.processes.append(asking)
        engine = wait_until(lambda: lock_of(here, "resumed"), LIMIT_S)["pid"]
        process.kill()
        os.killpg(engine, signal.SIGKILL)
        process.wait()
        asking.wait(LIMIT_S)
    flag.touch()
    with here.function() as (url, _):
        reports = [tick(url)]
        while not reports[-1]["destroyed"] and len(reports) < 60:
            reasons = [entry["reason"] for entry in reports[-1]["postponed"]]
            assert reasons == ["another run of the reaper is at work"]
            time.sleep(0.5)
            reports.append(tick(url))

    assert reports[-1]["destroyed"] == ["resumed"]
    assert here.resources("resumed") == []
    assert lock_of(here, "resumed") is None


def test_function_answers_500_when_it_cannot_observe(here: Here):
    """The scheduler's log must show a reaper that is blind."""
    with here.function(GOOGLE_COMPUTE_CUSTOM_ENDPOINT="http://127.0.0.1:9/compute/v1/") as (url, _):
        answer = requests.post(url, timeout=LIMIT_S)

    assert answer.status_code == 500
    assert "no answer" in answer.json()["error"]


def test_function_names_what_its_environment_lacks(here: Here):
    """A foundation that forgot a variable is told which."""
    with here.function(MAYFLY_STATE_BUCKET="", MAYFLY_TICK_S="soon") as (url, _):
        answer = requests.post(url, timeout=LIMIT_S)

    assert answer.status_code == 500
    error = answer.json()["error"]
    assert "MAYFLY_STATE_BUCKET is not set" in error
    assert "MAYFLY_TICK_S is 'soon'" in error
