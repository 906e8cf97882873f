"""Functions: deployed from a bucket, really running, called as Cloud Run lets them be called."""

from __future__ import annotations

import io
import json
import os
import signal
import textwrap
import threading
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import urllib3

from local.children import Children
from local.cloud import function_scratch
from local.rest.app import create_app
from local.rest.deployments import Functions
from local.rest.function_build import BuildError, parse_requirements
from local.rest.iam import Accounts
from local.rest.world import World
from local.servers import Door, Server
from tests.cloud.conftest import Api, message
from tests.cloud.test_children import alive
from tests.waiting import wait_until

AUTH = {"Authorization": "Bearer fake"}
PARENT = "/functions/v2beta/projects/proj/locations/us-central1"
ONE = f"{PARENT}/functions/reaper-one"
RUN = "/run/v2/projects/proj/locations/us-central1/services/reaper-one"
EMAIL = "{}@proj.iam.gserviceaccount.com"
MAIN = """
    import json, os, subprocess, sys, time
    import functions_framework
    import helper

    @functions_framework.http
    def tick(request):
        what = request.args.get("what")
        if what == "sleep":
            print("asleep", flush=True)
            time.sleep(float(request.args["s"]))
        if what == "daemon":
            return str(subprocess.Popen(["sleep", "300"], start_new_session=True).pid)
        if what == "who":
            import google.auth
            import google.auth.transport.requests as transport
            credentials, project = google.auth.default()
            credentials.refresh(transport.Request())
            return {"token": credentials.token, "project": project}
        if what == "imports":
            import importlib.util
            return {n: bool(importlib.util.find_spec(n)) for n in ("local", "mayfly", "flask")}
        return {"env": dict(os.environ), "saw": request.headers.get("Authorization", ""),
                "path": request.path, "helper": helper.NAME, "method": request.method}
"""


def archive(**files: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as zipped:
        for name, text in files.items():
            zipped.writestr(name.replace("__", "."), textwrap.dedent(text))
    return packed.getvalue()


GOOD = {
    "main__py": MAIN,
    "helper__py": "NAME = 'beside'",
    "requirements__txt": "functions-framework>=3\nflask  # the framework's own\n",
}


class Stage:
    """A served world with a source bucket, and what a test does with a function."""

    def __init__(self, api: Api, url: str) -> None:
        self.api, self.url = api, url

    def source(self, name: str = "one.zip", **files: str) -> None:
        path = "/upload/storage/v1/b/proj-source/o?uploadType=media"
        data = archive(**(files or GOOD))
        assert self.api.client.post(f"{path}&name={name}", data=data, headers=AUTH).json

    def body(self, **service: Any) -> dict[str, Any]:
        return {
            "buildConfig": {
                "runtime": "python312",
                "entryPoint": "tick",
                "source": {"storageSource": {"bucket": "proj-source", "object": "one.zip"}},
            },
            "serviceConfig": {"serviceAccountEmail": EMAIL.format("reaper")} | service,
        }

    def finish(self, call: tuple[int, Any]) -> dict[str, Any]:
        """The operation, once it is done."""
        status, operation = call
        assert status == 200, operation
        path = f"/functions/v2beta/{operation['name']}"
        done = wait_until(lambda: self._done(path), limit_s=60)
        return dict(done)

    def _done(self, path: str) -> dict[str, Any] | None:
        answer = self.api.get(path)[1]
        return answer if answer.get("done") else None

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        return self.finish(self.api.post(f"{PARENT}/functions?functionId=reaper-one", body))

    def deploy(self, **service: Any) -> dict[str, Any]:
        """Source and function with one invoker; its resource."""
        self.source()
        done = self.create(self.body(**service))
        assert "error" not in done, done
        self.grant()
        return dict(self.api.get(ONE)[1])

    def grant(self) -> None:
        members = [f"serviceAccount:{EMAIL.format('ticker')}"]
        binding = {"role": "roles/run.invoker", "members": members}
        body = {"policy": {"version": 3, "bindings": [binding]}}
        assert self.api.post(f"{RUN}:setIamPolicy", body)[0] == 200

    def token(self, account: str = "ticker", audience: str = "") -> dict[str, str]:
        audience = audience or f"{self.url}/_run/reaper-one/"
        minted = self.api.world.identity.mint_id_token(EMAIL.format(account), audience)
        return {"Authorization": f"Bearer {minted}"}

    def call(self, query: str = "", headers: dict[str, str] | None = None) -> Any:
        url = f"{self.url}/_run/reaper-one/{query}"
        sent = self.token() if headers is None else headers
        return urllib3.request("POST", url, headers=sent, timeout=30, retries=False)


@pytest.fixture
def stage(api: Api, world: World, stored: str, tmp_path: Path) -> Iterator[Stage]:
    door = Door("http")
    server = Server(create_app(world), door)
    world.base_url = door.url
    children = Children(tmp_path / "logs")
    platform = {"STORAGE_EMULATOR_HOST": "127.0.0.1:9", "PULUMI_CONFIG_PASSPHRASE": ""}
    world.of(Functions).attach(children, tmp_path / "functions", platform)
    for name in ("reaper", "ticker", "other"):
        world.of(Accounts).add(EMAIL.format(name), {})
    body = {"name": "proj-source", "location": "us-central1"}
    assert api.post("/storage/v1/b?project=proj", body)[0] == 200
    yield Stage(api, door.url)
    for deployed in list(world.of(Functions).deployed):
        world.of(Functions).forget(deployed)
    children.stop_all()
    server.stop()


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "name": ("Reaper", {}, "Invalid function name: Reaper"),
    "timeout": ("one", {"timeoutSeconds": 4000}, "timeout_seconds"),
    "memory": ("one", {"availableMemory": "64Gi"}, "available_memory: 64Gi"),
    "cpu": ("one", {"availableMemory": "8.5Gi", "availableCpu": "1"}, "at least 2 CPU"),
    "variable": ("one", {"environmentVariables": {"K_SERVICE": "a"}}, "K_SERVICE is reserved"),
    "account": ("one", {"serviceAccountEmail": EMAIL.format("gone")}, "was not found"),
    "field": ("one", {"timeout": 60}, 'Unknown name "timeout"'),
}


@pytest.mark.parametrize("case", BAD)
def test_function_is_refused_when_its_settings_are_wrong(stage: Stage, case: str) -> None:
    """Before anything is built."""
    name, service, text = BAD[case]

    status, answer = stage.api.post(f"{PARENT}/functions?functionId={name}", stage.body(**service))

    assert status == 400
    assert text in message(answer)


def test_function_is_refused_when_source_or_runtime_is_missing(stage: Stage) -> None:
    """A wrong bucket is a 404; a wrong object shows when it is built."""
    body = stage.body()
    body["buildConfig"]["runtime"] = "python27"
    runtime = stage.api.post(f"{PARENT}/functions?functionId=reaper-one", body)
    body = stage.body()
    body["buildConfig"]["source"]["storageSource"]["bucket"] = "proj-other"
    bucket = stage.api.post(f"{PARENT}/functions?functionId=reaper-one", body)

    failed = stage.create(stage.body())

    assert "runtime: 'python27'" in message(runtime[1])
    assert (bucket[0], message(bucket[1])) == (404, "The specified bucket does not exist.")
    assert failed["error"]["message"] == "No such object: proj-source/one.zip"
    assert stage.api.get(ONE)[1]["state"] == "FAILED"


BROKEN = {
    "no main": ({"reaper__py": "x = 1"}, "missing main.py"),
    "syntax": ({"main__py": "def tick(:"}, "failed to compile main.py"),
    "not installed": (
        GOOD | {"requirements__txt": "no-such-package>=1"},
        "Could not find a version that satisfies the requirement no-such-package>=1",
    ),
    "too old": (
        GOOD | {"requirements__txt": "flask<1"},
        "No matching distribution found for flask<1",
    ),
    "no entry point": ({"main__py": "x = 1"}, "Container Healthcheck failed"),
    "forgotten file": (
        {"main__py": "import mayfly.idle\ndef tick(request): return ''"},
        "No module named 'mayfly'",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_deployment_fails_when_google_could_not_run_the_source(stage: Stage, case: str) -> None:
    """The checkout and its tools must not hide what the archive lacks."""
    files, text = BROKEN[case]
    stage.source(**files)

    done = stage.create(stage.body())

    assert text in done["error"]["message"]
    assert stage.api.get(ONE)[1]["state"] == "FAILED"


def test_archive_is_refused_when_it_reaches_outside(stage: Stage) -> None:
    """Nothing is ever written beside the function's own folder."""
    stage.source(**{"main__py": "x = 1", "____/evil": "x"})

    done = stage.create(stage.body())

    assert "unsafe name" in done["error"]["message"]


def test_function_sees_only_what_its_platform_gives_it(stage: Stage) -> None:
    """No project tools on PATH, no user's token, its own home, its own identity."""
    stage.deploy(environmentVariables={"MAYFLY_PROJECT": "proj"})

    answer = stage.call("some/path?a=b").json()
    imports = stage.call("?what=imports").json()
    who = stage.call("?what=who").json()
    env = answer["env"]

    assert (answer["path"], answer["method"]) == ("/some/path", "POST")
    assert env["PATH"] == "/usr/sbin:/usr/bin:/sbin:/bin"
    assert "GOOGLE_OAUTH_ACCESS_TOKEN" not in env
    assert env["HTTPS_PROXY"] == "http://127.0.0.1:9"  # nothing leaves loopback
    assert (env["MAYFLY_PROJECT"], env["PULUMI_CONFIG_PASSPHRASE"]) == ("proj", "")
    assert (env["K_SERVICE"], env["FUNCTION_TARGET"]) == ("reaper-one", "tick")
    assert env["HOME"] != env["TMPDIR"]
    assert answer["saw"].endswith(".SIGNATURE_REMOVED_BY_GOOGLE")
    assert imports == {"local": False, "mayfly": False, "flask": True}
    assert who["project"] == "proj"
    assert stage.api.world.identity.access(who["token"]).email == EMAIL.format("reaper")


def test_functions_temporary_files_are_gone_when_it_is_deleted(stage: Stage) -> None:
    """A reaper unpacks a whole engine there."""
    stage.deploy()
    scratch = Path(stage.call().json()["env"]["TMPDIR"])
    assert scratch.is_dir()

    stage.finish(stage.api("DELETE", ONE))

    assert not scratch.exists()


@pytest.mark.parametrize("project_above", [True, False])
def test_function_has_no_project_above_its_temporary_files(
    tmp_path: Path, project_above: bool
) -> None:
    """An engine looks upwards for a Pulumi.yaml: it would take, and write, the user's own."""
    if project_above:
        (tmp_path / "Pulumi.yaml").write_text("name: mayfly\n")
    with ExitStack() as ends:
        scratch = function_scratch(tmp_path / "local", ends)
        assert scratch.is_dir()
        assert not [above for above in scratch.parents if (above / "Pulumi.yaml").exists()]

    assert scratch.exists() is not project_above  # the folder itself goes with the local cloud


def test_function_is_called_only_by_its_invoker(stage: Stage) -> None:
    """Everybody on the internet knows the address."""
    config = stage.deploy()["serviceConfig"]

    assert config["uri"] == f"{stage.url}/_run/reaper-one/"
    assert stage.call(headers={}).status == 403
    assert stage.call(headers=AUTH).status == 401
    assert stage.call(headers=stage.token(audience="https://other.run.app")).status == 401
    assert stage.call(headers=stage.token("other")).status == 403
    assert stage.call(headers=stage.token(audience=config["uri"].rstrip("/"))).status == 200


def test_second_request_is_turned_away_when_one_runs(stage: Stage) -> None:
    """Concurrency 1 and one instance: two reapers never work at once."""
    stage.deploy(maxInstanceCount=1, maxInstanceRequestConcurrency=1)
    results: list[int] = []
    slow = threading.Thread(target=lambda: results.append(stage.call("?what=sleep&s=2").status))
    slow.start()
    log = Path(stage.api.get("/_local/functions")[1][0]["log"])
    wait_until(lambda: "asleep" in log.read_text())

    second = stage.call()
    slow.join(60)

    assert (second.status, second.data) == (429, b"Rate exceeded.")
    assert results == [200]
    assert stage.call().status == 200


def test_function_gets_a_new_instance_when_its_own_was_killed(stage: Stage) -> None:
    """The platform takes instances away whenever it likes; the next call must find one."""
    stage.deploy()
    first = stage.api.get("/_local/functions")[1][0]["pid"]
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not alive(first))

    assert wait_until(lambda: stage.call().status == 200, 30)

    assert stage.api.get("/_local/functions")[1][0]["pid"] not in (0, first)


def test_function_answers_500_when_a_fault_is_ordered_for_its_calls(stage: Stage) -> None:
    """A reaper that crashes is played without touching it; who may not call learns nothing."""
    stage.deploy()
    stage.api.fault("http-5xx", method="run.routes.invoke", where={"service": "reaper-one"})

    assert stage.call(headers={}).status == 403
    assert stage.call().status == 500
    assert stage.call().status == 200


def test_request_ends_with_504_when_the_function_takes_too_long(stage: Stage) -> None:
    """Its timeout is the function's own, not the caller's."""
    stage.deploy(timeoutSeconds=1)

    late = stage.call("?what=sleep&s=5")

    assert (late.status, late.data) == (504, b"upstream request timeout")


def test_function_changes_in_place_and_keeps_the_old_one_when_the_new_fails(stage: Stage) -> None:
    """A bad deployment must not take the reaper down."""
    before = stage.deploy(environmentVariables={"V": "1"})
    body = stage.body(environmentVariables={"V": "2"})
    stage.finish(stage.api("PATCH", f"{ONE}?updateMask=serviceConfig", body))
    changed = stage.call().json()["env"]
    stage.source("two.zip", main__py="raise RuntimeError('no')")
    body["buildConfig"]["source"]["storageSource"] = {
        "bucket": "proj-source",
        "object": "two.zip",
        "generation": before["buildConfig"]["source"]["storageSource"]["generation"],
    }
    failed = stage.finish(stage.api("PATCH", f"{ONE}?updateMask=buildConfig", body))

    assert (changed["V"], changed["K_REVISION"][:17]) == ("2", "reaper-one-00002-")
    assert "Healthcheck failed" in failed["error"]["message"]
    assert stage.api.get(ONE)[1]["state"] == "ACTIVE"
    assert stage.call().json()["env"]["V"] == "2"


def test_function_and_all_it_started_are_gone_when_it_is_deleted(stage: Stage) -> None:
    """Also what it sent to the background, and its service's policy."""
    stage.deploy()
    pid = stage.api.get("/_local/functions")[1][0]["pid"]
    daemon = int(stage.call("?what=daemon").data)
    assert alive(pid)
    assert alive(daemon)

    done = stage.finish(stage.api("DELETE", ONE))

    assert done["response"]["@type"].endswith("google.protobuf.Empty")
    assert not alive(pid)
    assert not alive(daemon)
    assert stage.api.get(ONE)[0] == stage.api.get(f"{RUN}:getIamPolicy")[0] == 404
    assert stage.call().status == 404


def test_requirements_are_read_as_pip_reads_them() -> None:
    """A locked file has hashes, markers, comments and options."""
    text = (
        "# locked\n--index-url x\nflask==3.1.3 \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n"
        "colorama==0.4 ; sys_platform == 'win32'\nrequests>=2  # http\n"
    )

    assert [str(r) for r in parse_requirements(text)] == ["flask==3.1.3", "requests>=2"]
    with pytest.raises(BuildError, match="Invalid requirement"):
        parse_requirements("flask=3\n")


def test_report_names_process_and_log(stage: Stage) -> None:
    """The demo shows that the reaper really ran, and where it wrote."""
    stage.deploy()

    found = stage.api.get("/_local/functions")[1]

    assert [f["name"] for f in found] == [
        "projects/proj/locations/us-central1/functions/reaper-one"
    ]
    command = Path(f"/proc/{found[0]['pid']}/cmdline").read_bytes().split(b"\0")
    assert command[2].endswith(b"function_main.py")
    assert json.dumps(found[0]["uri"])
    assert Path(found[0]["log"]).is_file()
