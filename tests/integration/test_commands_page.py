"""docs/commands.md, row by row: what it promises in place of the old way, run as it stands there.

One story on one local cloud: a row stands on those above it.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import expect

from local.cloud import LocalCloud, Options
from mayfly import names
from mayfly.cloud import Cloud, connect
from mayfly.demo.workshop import make_project
from tests.conftest import ROOT
from tests.desk import schemas
from tests.page import crew, walk
from tests.provider.engine import find_engine
from tests.waiting import wait_until

PAGE = ROOT / "docs/commands.md"
LIMIT_S = 400
# A reaper that looks every five minutes of 1000 s each: nobody but the test ends anything here.
SETTINGS = {"hub_mb": 16, "vllm_load_s": 0, "scheduler_speedup": 0.001}
pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Row:
    """What a row's command says. stays: it goes on until Ctrl-C, once it has said it."""

    says: str
    stays: bool = False


UP = "mayfly up kimi-k2.5 --yes"
ROWS = {
    "mayfly plan kimi-k2.5": Row("mode fast \\(chosen\\)"),
    "mayfly quota check kimi-k2.5": Row("us-central1"),
    UP: Row("dev serves kimi-k2.5 in .*\nNext: mayfly connect dev"),
    "mayfly seed kimi-k2.5": Row("The weights of kimi-k2.5 are in the bucket"),
    "mayfly status": Row("serving"),
    "mayfly status --watch": Row("dev, serving, ", stays=True),
    "mayfly logs dev --since 1h": Row("== dev: serving"),
    "mayfly logs dev -f": Row("serve: done", stays=True),
    "mayfly ssh dev -- -T true": Row(""),
    "mayfly exec dev -- nvidia-smi": Row("NVIDIA|driver_version|580"),
    "mayfly cp prompts dev:prompts": Row(""),
    "mayfly cp dev:prompts back": Row(""),
    "mayfly ssh-config dev --yes": Row("mayfly-dev"),
    "mayfly connect dev --show-key": Row("dev answers at http://127.0.0.1:", stays=True),
    "python bench/test_inference.py": Row(""),
    "python bench/benchmark.py --rounds 3 --concurrent 2": Row("tokens/s"),
    "mayfly idle dev": Row("It ends .* if nothing happens"),
    "mayfly keep 30m dev": Row("dev is kept until"),
    "mayfly dashboard": Row(r"http://127\.0\.0\.1:\d+/#token=\S+", stays=True),
    "mayfly down dev --yes": Row("dev is gone \\(ran "),
    "mayfly down --all --yes": Row("is gone|There is no session"),
    "mayfly cost": Row("VMs; what still runs: mayfly status"),
    "mayfly cost --break-even": Row("break-even"),
}


def promised() -> list[str]:
    """The commands in the page's table, in its order."""
    lines = PAGE.read_text().partition("## ")[0].splitlines()
    cells = [line.strip("|").split("|")[-1].strip() for line in lines if line.startswith("| ")]
    return [cell.strip("`") for cell in cells if cell.startswith("`")]


class Desk:
    """A user's folder, home and shell."""

    def __init__(self, project: Path, cloud: Cloud) -> None:
        self.project, self.cloud = project, cloud
        self.endpoint: dict[str, str] = {}

    def words(self, command: str) -> list[str]:
        first, *rest = shlex.split(command)
        if first == "python":
            return [sys.executable, str(ROOT / rest[0]), *rest[1:]]
        return [sys.executable, "-m", "mayfly.cli", *rest]

    def start(self, command: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.words(command),
            cwd=self.project,
            env=os.environ | self.endpoint,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str, row: Row) -> str:
        """What it says; held to its row, and to an end without failure."""
        with self.start(command) as child:
            try:
                said = self.lead(child, command, row)
            except BaseException:
                child.kill()  # or leaving would wait for one that stays
                raise
        assert child.returncode == 0, f"{command}\n{said[-3000:]}"
        assert re.search(row.says, said), f"{command}\n{said[-3000:]}"
        return said

    def lead(self, child: "subprocess.Popen[str]", command: str, row: Row) -> str:
        """All that it says: to its end, or, where it stays, until Ctrl-C."""
        if not row.stays:
            return child.communicate(timeout=LIMIT_S)[0]
        said = until(child, row.says)
        if command.startswith("mayfly connect"):
            self.use(said)
        if command == "mayfly dashboard":
            self.see(said)
        child.send_signal(signal.SIGINT)
        return said + child.communicate(timeout=60)[0]

    def reap(self) -> None:
        """One look of the reaper: it writes the books of what is gone."""
        job = f"projects/{self.cloud.project}/locations/us-central1/jobs/mayfly-reaper"
        self.cloud.scheduler.run(job)
        bucket = names.bucket(self.cloud.project, "state")
        wait_until(lambda: list(self.cloud.storage.list(bucket, names.LEDGER_PREFIX)), LIMIT_S)

    def use(self, said: str) -> None:
        """What the two rows of the bench do while the tunnel is there."""
        self.endpoint = dict(re.findall(r"^export (\w+)=(\S+)$", said, re.MULTILINE))
        for command, row in ROWS.items():
            if command.startswith("python "):
                self.run(command, row)

    def see(self, said: str) -> None:
        """What a user does with the page, in a real browser: all that it offers, to the end of dev,
        which is brought up again for the rows below."""
        expect.set_options(timeout=LIMIT_S * 1000)
        with crew.browsing() as browser, crew.visiting(browser) as visitor:
            page = visitor.new_page()
            page.goto(next(word for word in said.split() if "#token=" in word))
            walk.walk(page, "dev")
        self.run(UP, ROWS[UP])


def until(child: "subprocess.Popen[str]", pattern: str) -> str:
    """What it has said when the pattern is in it."""
    said, ends = "", time.monotonic() + LIMIT_S
    assert child.stdout is not None
    while not re.search(pattern, said):
        line = child.stdout.readline()
        assert line, f"it ended: {said[-3000:]}"
        assert time.monotonic() < ends, said[-3000:]
        said += line
    return said


@pytest.fixture
def desk() -> Iterator[Desk]:
    """From an empty project; the path is short, because a socket's name has 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="mf-") as name:
        folder = Path(name)
        for made in ("project/prompts", "home"):
            (folder / made).mkdir(parents=True)
        (folder / "project/prompts/first.txt").write_text("content")
        local = LocalCloud(Options(directory=folder / "cloud", settings=dict(SETTINGS)))
        try:
            described = local.describe()
            # What `mayfly local up` writes, for the stand-in gcloud.
            (folder / "cloud/local.json").write_text(json.dumps(described))
            variables = described["exports"]
            path = os.pathsep.join([str(find_engine().parent), os.environ["PATH"]])
            os.environ.update(variables | {"PATH": variables["PATH"].replace("$PATH", path)})
            # What setup unpacked stays where it is: not every host has an SSH server.
            os.environ.setdefault("XDG_CACHE_HOME", str(Path.home() / ".cache"))
            os.environ["HOME"] = str(folder / "home")
            make_project(folder / "project", described["project"])
            # As `mayfly init` has done long ago.
            api = "services/cloudquotas.googleapis.com:enable"
            cloud = connect(described["project"])
            cloud.ask("POST", "services", f"projects/{cloud.project}/{api}", {})
            yield Desk(folder / "project", cloud)
        finally:
            local.stop()


def test_page_holds_the_rows_that_are_run():
    """A row that nobody runs is a promise that nobody keeps."""
    assert promised() == list(ROWS)


def test_every_row_of_the_page_does_what_the_old_way_did(desk):
    """The whole table in its order, as it is typed."""
    for command, row in ROWS.items():
        if command.startswith("python "):
            continue  # with the tunnel, in the row above it
        if command == "mayfly cost":
            desk.reap()
        desk.run(command, row)

    assert (desk.project / "back/first.txt").read_text() == "content"
    told = subprocess.run(
        desk.words("mayfly status --json"), cwd=desk.project, capture_output=True, check=True
    )
    schemas.check(schemas.STATUS, json.loads(told.stdout))
    assert [row["layer"] for row in json.loads(told.stdout)["sessions"]] == []
