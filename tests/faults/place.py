"""Where the faults happen: one local cloud with a foundation and weights, as a user has them."""

import datetime
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from local.cloud import LocalCloud, Options
from local.rest.compute.life import Life
from local.rest.compute.operations import Operations
from local.rest.compute.store import Store
from local.rest.deployments import Functions
from local.rest.scheduler import Scheduler
from mayfly import names
from mayfly.cloud import CloudError, connect
from mayfly.demo.evidence import Witness
from mayfly.demo.workshop import FOUNDATION, SEED, make_project
from tests.conftest import ROOT
from tests.faults import timing
from tests.faults.patience import wait_until
from tests.provider.engine import find_engine

SETTINGS = {"hub_mb": 16, "vllm_load_s": 0, "scheduler_speedup": timing.SPEEDUP}
REGION = "us-central1"
FUNCTION = "mayfly-reaper"
PULUMI_LIMIT_S, DEPLOY_LIMIT_S = 600.0, 120.0
STARTS_AT_ONCE = 2


class Place:
    """Started by the constructor; `stop` ends all of it. Its logs lie in `folder`.

    What it says of Compute it reads from the cloud itself, past every fault that was ordered.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder, self.logs = folder, folder / "logs"
        self.say = say
        self._commands: list[subprocess.Popen[bytes]] = []
        self.logs.mkdir(parents=True)
        # What starts takes all the CPU there is, what is idle none: more at once are not faster.
        self.starting = threading.BoundedSemaphore(STARTS_AT_ONCE)
        self.local = LocalCloud(Options(directory=folder / "cloud", settings=dict(SETTINGS)))
        try:
            self._build()
        except BaseException:
            self.local.stop()
            raise

    def _build(self) -> None:
        described = self.local.describe()
        (self.folder / "cloud/local.json").write_text(yaml.safe_dump(described))
        variables = described["exports"]
        path = os.pathsep.join([str(find_engine().parent), os.environ["PATH"]])
        os.environ.update(variables | {"PATH": variables["PATH"].replace("$PATH", path)})
        self.cloud = connect(described["project"])
        self.bucket = names.bucket(self.cloud.project, "state")
        self.witness = Witness(self.cloud, self.bucket)
        self.project = self.folder / "project"
        self.project.mkdir()
        make_project(self.project, self.cloud.project)
        self._leave_time(SEED)
        self.say("foundation up")
        self.up(FOUNDATION)
        self.switch_scheduler("pause")  # a reaper so quick would end the seed beside us
        wait_until(lambda: not self.scheduler_is_busy(), DEPLOY_LIMIT_S)
        self.say("weights into the bucket")
        self.up(SEED)
        self.pulumi(SEED, "destroy", "--yes", "--skip-preview", "--refresh")
        self.configure_function()
        self.switch_scheduler("resume")

    def stop(self) -> None:
        """End all of it, the reaper's last tick first."""
        try:
            self.switch_scheduler("pause")
            wait_until(lambda: not self.scheduler_is_busy(), DEPLOY_LIMIT_S)
        except (AssertionError, CloudError) as error:  # what was measured is worth more
            self.say(f"the reaper's last tick was cut off: {error}")
        finally:
            for command in self._commands:
                if command.poll() is None:  # nobody waited for it, or the run was told to end
                    os.killpg(command.pid, signal.SIGKILL)
                    command.wait()
            self.local.stop()

    # -- the user's hands

    def configure(self, stack: str, config: Mapping[str, str]) -> None:
        """Write a session's stack file: as shipped, with short lives and these settings."""
        found = yaml.safe_load((ROOT / "Pulumi.dev.yaml").read_text())["config"]
        chosen = {f"mayfly:{key}": value for key, value in {**timing.SHORT, **config}.items()}
        found |= {"gcp:project": self.cloud.project, **chosen}
        (self.project / f"Pulumi.{stack}.yaml").write_text(yaml.safe_dump({"config": found}))

    def _leave_time(self, stack: str) -> None:
        """The product's own durations: what is only prepared must not end on a busy machine."""
        path = self.project / f"Pulumi.{stack}.yaml"
        found = yaml.safe_load(path.read_text())["config"]
        kept = {
            key: value
            for key, value in found.items()
            if key.removeprefix("mayfly:") not in timing.SHORT
        }
        path.write_text(yaml.safe_dump({"config": kept}))

    def up(self, stack: str) -> None:
        self.pulumi(stack, "stack", "init")
        self.pulumi(stack, "up", "--yes", "--skip-preview")

    def pulumi(self, stack: str, *words: str) -> str:
        """A command to its end, its words in a log of its own. AssertionError where it fails."""
        process = self.start_pulumi(stack, *words)
        code = process.wait(PULUMI_LIMIT_S)
        text = self.log(stack, words[0]).read_text()
        assert code == 0, f"pulumi {' '.join(words)} --stack {stack}: {code}\n{text[-1500:]}"
        return text

    def start_pulumi(self, stack: str, *words: str) -> subprocess.Popen[bytes]:
        """A command, started in a session of its own, as on a laptop that may die."""
        more = ("--stack", stack, "--non-interactive", "--color", "never")
        return self._start(self.log(stack, words[0]), "pulumi", *words, *more)

    def start_watch(self, stack: str) -> tuple[subprocess.Popen[bytes], Path]:
        """`mayfly up --watch` of a session that is there, and where its words go."""
        words = ("up", "--watch", "--yes", "--session", stack)
        said = self.log(stack, "watch")
        return self._start(said, sys.executable, "-m", "mayfly.cli", *words), said

    def _start(self, said: Path, *command: str) -> subprocess.Popen[bytes]:
        with said.open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.project,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._commands.append(process)
        return process

    def log(self, stack: str, verb: str) -> Path:
        return self.logs / f"{stack}-{verb}.log"

    # -- the function and its scheduler

    def configure_function(self, **service: Any) -> None:
        """Give the reaper shorter durations: its environment, as its settings take it.

        service: more of Google's serviceConfig.
        """
        parent = f"projects/{self.cloud.project}/locations/{REGION}"
        path = f"{parent}/functions/{FUNCTION}"
        config = self.cloud.ask("GET", "functions", path)["serviceConfig"]
        wanted = {
            **config["environmentVariables"],
            "MAYFLY_TICK_S": str(timing.TICK_S),
            "MAYFLY_STALE_LOCK_S": str(timing.STALE_LOCK_S),
        }
        body = {"serviceConfig": {**config, **service, "environmentVariables": wanted}}
        mask = "?updateMask=serviceConfig"
        begun = self.cloud.ask("PATCH", "functions", path + mask, body)["name"]
        done = wait_until(
            lambda: (found := self.cloud.ask("GET", "functions", begun)).get("done") and found,
            DEPLOY_LIMIT_S,
        )
        assert "error" not in done, done

    @property
    def job(self) -> str:
        return f"projects/{self.cloud.project}/locations/{REGION}/jobs/{FUNCTION}"

    @contextmanager
    def second_job(self) -> Iterator[None]:
        """Two instances of the function, and a second job that wakes them at the same time."""
        found = self.cloud.ask("GET", "scheduler", self.job)
        twin = {key: found[key] for key in ("schedule", "timeZone", "attemptDeadline")}
        target = dict(found["httpTarget"])
        twin |= {"name": f"{self.job}-2", "httpTarget": target}
        self.configure_function(maxInstanceCount=2)
        self.cloud.ask("POST", "scheduler", self.job.rpartition("/")[0], twin)
        try:
            yield
        finally:
            self.cloud.ask("DELETE", "scheduler", f"{self.job}-2")
            self.configure_function(maxInstanceCount=1)

    def switch_scheduler(self, verb: str) -> None:
        """verb: pause or resume, as anybody with the rights can."""
        self.cloud.ask("POST", "scheduler", f"{self.job}:{verb}", {})

    def function_pid(self) -> int:
        """The reaper's process; 0 while it has none."""
        deployed = self.local.world.of(Functions).by_short_name(FUNCTION)
        assert deployed is not None
        assert deployed.runtime is not None
        return deployed.runtime.child.pid

    def scheduler_is_busy(self) -> bool:
        return self.local.world.of(Scheduler).jobs[self.job].busy

    # -- what Compute knows

    def instances(self) -> list[dict[str, Any]]:
        with self.local.world.lock:
            return [dict(found) for found in self.local.world.of(Store).all("instances")]

    def disks(self) -> list[dict[str, Any]]:
        with self.local.world.lock:
            return [dict(found) for found in self.local.world.of(Store).all("disks")]

    def operations(self) -> list[dict[str, Any]]:
        """All zone operations, newest first."""
        with self.local.world.lock:
            return self.local.world.of(Operations).all()

    def claims(self, vm_id: str) -> dict[str, str]:
        """A VM's guest attributes, without namespace."""
        with self.local.world.lock:
            found = dict(self.local.world.of(Life).attributes.get(vm_id, {}))
        return {key.removeprefix(names.GUEST_PATH): value for key, value in found.items()}

    @contextmanager
    def fault(self, name: str, method: str = "", **words: Any) -> Iterator[None]:
        """A fault while this lasts, as at /_local/faults; for ever unless `times` says less."""
        faults = self.local.world.faults
        order = {"fault": name, "times": 0, **words}
        faults.order({**order, "method": method} if method else order)
        try:
            yield
        finally:
            faults.lift(name, words.get("where", {}))

    def lock(self, stack: str) -> dict[str, Any] | None:
        """A stack's state lock, as the engine wrote it; None when it is free."""
        for item in self.cloud.storage.list(self.bucket, names.stack_locks(stack)):
            blob = self.cloud.storage.get(self.bucket, str(item["name"]))
            if blob is not None:
                return {**json.loads(blob.data), "object": item["name"]}
        return None

    def put_lock(self, stack: str) -> str:
        """A lock as an engine on somebody's laptop writes it; the object's name."""
        name = f"{names.stack_locks(stack)}{uuid.uuid4()}.json"
        at = datetime.datetime.now(datetime.UTC).isoformat()
        body = {"pid": 4711, "username": "ann", "hostname": "laptop", "timestamp": at}
        self.cloud.storage.put(self.bucket, name, json.dumps(body).encode())
        return name
