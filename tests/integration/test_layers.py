"""The three layers as a user types them: the real engine, our own program, VMs that boot.

Each test brings up what it stands on, where no test before it has: together they share one local
cloud and one foundation, alone each still runs.
"""

import base64
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from local import exports
from local.cloud import NOWHERE, LocalCloud, Options
from mayfly import endpoint, names, profile, timeline, vms
from mayfly.cloud import connect
from mayfly.demo.evidence import Witness
from mayfly.demo.workshop import FOUNDATION, SEED, make_project
from tests.conftest import ROOT
from tests.integration.leaks import KEY_FILE, PLACES, Found, Sweep, serving
from tests.integration.plants import plants
from tests.provider.engine import Stack, find_engine
from tests.running import running
from tests.waiting import wait_until

SESSION, LONELY, LONG = "layers", "lonely", "long"
HUB_SECRET, HUB_TOKEN = "hub-token", "hf_TheHubsTokenThatNobodyMaySee"
# A reaper that looks every five minutes of 1000 s each: nobody but the test ends anything here.
SETTINGS = {"hub_mb": 16, "vllm_load_s": 0, "scheduler_speedup": 0.001}
VANISH_LIMIT_S = 90
REAP_LIMIT_S = 90
SAVE_LIMIT_S = 60
COMMAND_LIMIT_S = 300
LIVES = {
    "mayfly:idleMinutes": "60",
    "mayfly:startMinutes": "10",
    "mayfly:failedMinutes": "1",
    "mayfly:heartbeatMinutes": "10",
    "mayfly:maxHours": "2",
}


class Place:
    """A local cloud, a copy of the project, and the three layers' stacks in it."""

    def __init__(self, local: LocalCloud, project: Path) -> None:
        self.settings = local.world.settings
        described = local.describe()
        variables = described["exports"]
        path = os.pathsep.join([str(find_engine().parent), os.environ["PATH"]])
        os.environ.update(variables | {"PATH": variables["PATH"].replace("$PATH", path)})
        self.cloud = connect(described["project"])
        self.witness = Witness(self.cloud, names.bucket(self.cloud.project, "state"))
        self.project = project
        self.local = local
        self.said: list[str] = []
        self.sweep = Sweep(local, self.cloud)
        make_project(project, self.cloud.project)
        self._own_program()
        self._keep_hub_token()
        self.stack = Stack(project, dict(os.environ))
        for stack in (FOUNDATION, SEED, SESSION, LONELY, LONG):
            self.pulumi(stack, "stack", "init")

    def _own_program(self) -> None:
        """Our own copy of what a test changes, and stacks that no clock ends meanwhile."""
        (self.project / "mayfly").unlink()
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "mayfly", self.project / "mayfly", ignore=ignored)
        shipped = yaml.safe_load((ROOT / "Pulumi.dev.yaml").read_text())
        for stack in (SEED, SESSION, LONELY, LONG):
            file = self.project / f"Pulumi.{stack}.yaml"
            written = yaml.safe_load(file.read_text()) if file.exists() else shipped
            config = written["config"] | LIVES | {"gcp:project": self.cloud.project}
            if stack == LONELY:
                config |= {"mayfly:foundationStack": "nowhere"}
            if stack == LONG:
                config |= {"mayfly:mode": "long"}
            file.write_text(yaml.safe_dump({"config": config}))

    def _keep_hub_token(self) -> None:
        """As `mayfly init` does: straight to Secret Manager; the program learns its name only."""
        api = f"projects/{self.cloud.project}/services/secretmanager.googleapis.com:enable"
        self.cloud.ask("POST", "services", api, {})
        path = f"projects/{self.cloud.project}/secrets"
        body = {"replication": {"automatic": {}}}
        self.cloud.ask("POST", "secrets", f"{path}?secretId={HUB_SECRET}", body)
        payload = {"payload": {"data": base64.b64encode(HUB_TOKEN.encode()).decode()}}
        self.cloud.ask("POST", "secrets", f"{path}/{HUB_SECRET}:addVersion", payload)
        file = self.project / f"Pulumi.{FOUNDATION}.yaml"
        written = yaml.safe_load(file.read_text())
        written["config"]["mayfly:hfTokenSecret"] = HUB_SECRET
        file.write_text(yaml.safe_dump(written))

    def pulumi(self, stack: str, *words: str, fails: bool = False) -> str:
        said = self.stack.run(*words, "--stack", stack, fails=fails)
        self.said.append(said)
        return said

    def up(self, stack: str, *words: str, fails: bool = False) -> str:
        return self.pulumi(stack, "up", "--yes", "--skip-preview", *words, fails=fails)

    def mayfly(self, *words: str) -> dict[str, Any]:
        """What a command says with --json."""
        with running(
            [sys.executable, "-m", "mayfly.cli", *words],
            cwd=self.project,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as child:
            out, err = child.communicate(timeout=COMMAND_LIMIT_S)
        assert child.returncode == 0, err[-9000:]
        found: dict[str, Any] = json.loads(out)
        return found

    def outputs(self, stack: str) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load(self.pulumi(stack, "stack", "output", "--json"))
        return found

    def resources(self, stack: str) -> list[str]:
        return self.witness.resources(stack)

    def destroy(self, stack: str) -> None:
        self.pulumi(stack, "destroy", "--yes", "--skip-preview", "--refresh")
        assert self.resources(stack) == []

    def stand(self, stack: str) -> dict[str, Any]:
        """Bring a layer up, unless it is; first a preview, which makes nothing. Its outputs."""
        if not self.resources(stack):
            assert "to create" in self.pulumi(stack, "preview")
            assert self.resources(stack) == []
            self.up(stack)
        return self.outputs(stack)

    def have_weights(self) -> None:
        """Let a seed have done its work, some time ago."""
        held = names.bucket(self.cloud.project, "weights")
        if not any(self.cloud.storage.list(held, "models/")):
            self.up(SEED)
            self.destroy(SEED)

    def empty(self, bucket: str) -> None:
        for item in list(self.cloud.storage.list(bucket, "")):
            self.cloud.storage.delete(bucket, item["name"])

    def claims(self, outputs: dict[str, Any]) -> dict[str, str]:
        """What the VM says of itself."""
        where = outputs["zone"], outputs["vm_name"], names.GUEST_PATH
        return self.cloud.compute.guest_attributes(*where) or {}

    def phase(self, outputs: dict[str, Any]) -> str:
        return self.claims(outputs).get("phase", "")

    def stage(self, outputs: dict[str, Any], name: str) -> timeline.Stage | None:
        """A stage of the VM's start that has ended."""
        stages = timeline.parse(self.claims(outputs).get("timeline", ""))
        return next((s for s in stages if s.name == name and s.end is not None), None)

    def have_reaped(self, stack: str, outputs: dict[str, Any]) -> None:
        """One look of the reaper, which takes a seed that is done; until its books are written."""
        region = outputs["zone"].rpartition("-")[0]
        job = f"projects/{self.cloud.project}/locations/{region}/jobs/mayfly-reaper"
        self.cloud.scheduler.run(job)
        state = names.bucket(self.cloud.project, "state")
        record = names.ledger(outputs["vm_id"])
        wait_until(lambda: self.cloud.storage.get(state, record), REAP_LIMIT_S)
        wait_until(lambda: not self.resources(stack), REAP_LIMIT_S)
        locks = names.stack_locks(stack)
        wait_until(lambda: not list(self.cloud.storage.list(state, locks)), REAP_LIMIT_S)

    def vanish(self, outputs: dict[str, Any]) -> None:
        """Google takes the VM back, and the engine does not know."""
        zone, vm_id = outputs["zone"], outputs["vm_id"]
        self.cloud.compute.delete_instance(zone, vm_id)
        wait_until(lambda: self.cloud.compute.instance(zone, vm_id) is None, VANISH_LIMIT_S)


# Alone on two cores the slowest takes half a minute; a busy machine must not make it red.
pytestmark = pytest.mark.timeout(480)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """One local cloud for all; its path is short, because a socket's name has 107 bytes."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="mf-") as name:
        folder = Path(name)
        (folder / "project").mkdir()
        local = LocalCloud(
            Options(directory=folder / "cloud", settings=dict(SETTINGS), hub_token=HUB_TOKEN)
        )
        try:
            yield Place(local, folder / "project")
        finally:
            local.stop()
            os.environ.clear()
            os.environ.update(before)


def test_session_says_what_to_do_when_there_is_no_foundation(place):
    """The first thing that a new user gets wrong: one message, and nothing begun."""
    said = place.up(LONELY, fails=True)

    told = said.partition("Diagnostics:")[2]
    assert told.count("error:") == 1, said
    assert "There is no foundation: no stack 'nowhere' in this backend." in told
    assert "Try: pulumi stack init nowhere && pulumi up --stack nowhere" in told
    assert "Traceback" not in said
    assert place.resources(LONELY) == []


def test_session_is_refused_before_its_vm_when_its_profile_was_never_seeded(place):
    """Read from the bucket at preview: the VM would find out at eight GPUs' price."""
    place.stand(FOUNDATION)
    for key, value in (("foundationStack", FOUNDATION), ("profile", "kimi-k2.6")):
        place.pulumi(LONELY, "config", "set", f"mayfly:{key}", value)

    said = place.pulumi(LONELY, "preview", fails=True)

    told = said.partition("Diagnostics:")[2]
    assert told.count("error:") == 1, said
    assert "The bucket has no weights for kimi-k2.6: no gs://" in told
    assert "Try: mayfly seed kimi-k2.6" in told
    assert place.cloud.compute.instance("us-central1-a", names.vm(LONELY)) is None


def test_no_secret_shows_anywhere_while_a_seed_and_a_session_stand(place):
    """A key in a log outlives the session; one in metadata is every process's on the VM."""
    place.stand(FOUNDATION)
    seed, session = place.stand(SEED), place.stand(SESSION)
    key = place.cloud.secrets.access(f"projects/{place.cloud.project}/secrets/mayfly-api-key")
    secrets = {"the API key": key, "the hub's token": HUB_TOKEN}
    assert place.sweep.find(secrets, "".join(place.said)) == set()

    holders = serving(key)
    assert holders, "vLLM has no key: the endpoint is open, or the look is blind"
    assert [stat.S_IMODE((h / "environ").stat().st_mode) for h in holders] == [0o400] * len(holders)
    kept = holders[0] / "root" / KEY_FILE
    assert [stat.S_IMODE(p.stat().st_mode) for p in (kept, kept.parent)] == [0o600, 0o700]

    place.have_reaped(SEED, seed)
    assert place.sweep.find(secrets, "".join(place.said)) == set()
    looked = {where for where, text in place.sweep.places("said") if text}
    quiet = {"log"}  # the storage server and its like have nothing to say
    assert looked | quiet >= PLACES, f"not looked at: {PLACES - looked}"
    assert place.phase(session) == "serving"


def test_secret_is_seen_when_it_is_planted_in_any_place(place):
    """The twin: a look that finds nothing must be one that would have."""
    place.stand(FOUNDATION)
    place.have_weights()
    session = place.stand(SESSION)
    secrets = {"planted": "pLaNtEd-0123456789-pLaNtEd-0123456789-abcd"}
    planted = plants(place.local, place.cloud, session["vm_id"], secrets["planted"])
    assert set(planted) == PLACES
    assert place.sweep.find(secrets) == set()

    with ExitStack() as taken_away:
        said = "".join([taken_away.enter_context(plant()) for plant in planted.values()])
        assert place.sweep.find(secrets, said) == {Found("planted", where) for where in PLACES}
    assert place.sweep.find(secrets) == set()


def test_seed_is_made_anew_when_its_vm_has_vanished(place):
    """A seed that Google took in the middle is only run again: no state to mend by hand."""
    place.stand(FOUNDATION)
    first = place.stand(SEED)
    place.up(SEED, "--expect-no-changes")
    assert first["phase"] == "seeded"
    assert place.witness.weights_problems(first["weights_uri"]) == []

    place.vanish(first)
    place.pulumi(SEED, "refresh", "--yes", "--skip-preview")
    assert names.INSTANCE_TYPE not in place.resources(SEED)
    place.up(SEED)
    again = place.outputs(SEED)
    assert again["vm_id"] != first["vm_id"]
    assert place.phase(again) == "seeded"

    place.destroy(SEED)
    assert place.cloud.compute.instance(again["zone"], again["vm_id"]) is None
    assert place.witness.weights_problems(first["weights_uri"]) == []


def test_session_is_left_alone_when_the_rate_table_changes(place):
    """New prices come every month; a live VM must not be touched for them."""
    place.stand(FOUNDATION)
    place.have_weights()
    first = place.stand(SESSION)
    table = place.project / "mayfly" / "rates.yaml"
    rates = yaml.safe_load(table.read_text())
    for rate in rates["rates"]:
        rate["usd_per_h"] = 1.5 * rate["usd_per_h"]
    table.write_text(yaml.safe_dump(rates))

    place.up(SESSION, "--expect-no-changes")

    assert place.outputs(SESSION) == first


def test_session_is_made_anew_and_waited_for_when_its_vm_has_vanished(place):
    """Spot VMs go without a word: the same `up` again must end with an endpoint that answers.

    What the first one compiled is there for the second.
    """
    place.stand(FOUNDATION)
    place.have_weights()
    first = place.stand(SESSION)
    assert place.phase(first) == "serving"
    saved = wait_until(lambda: place.stage(first, "save"), SAVE_LIMIT_S)
    assert saved.ok

    place.vanish(first)
    place.up(SESSION)
    again = place.outputs(SESSION)
    assert again["vm_id"] != first["vm_id"]
    assert place.phase(again) == "serving"
    restored = place.stage(again, "caches")
    assert restored.ok
    assert restored.bytes

    place.destroy(SESSION)
    assert place.cloud.compute.instance(again["zone"], again["vm_id"]) is None


def test_up_says_how_much_less_is_served_when_long_context_fails_its_check(place):
    """An endpoint with less context than was asked for, said in plain words; not garbage."""
    place.stand(FOUNDATION)
    place.have_weights()
    place.settings["vllm_garbage_past"] = 65536
    try:
        said = place.up(LONG)
    finally:
        place.settings["vllm_garbage_past"] = 0

    found = place.outputs(LONG)
    serves = endpoint.parse(place.claims(found)["endpoint"])
    assert place.phase(found) == "serving"
    assert serves.mode == endpoint.SAFE
    assert serves.max_model_len < 65536
    why = r"long context failed its check \(needle: not found at 2K and 6[78]K of 70K"
    assert re.search(why, said)
    assert f"serving {serves.max_model_len:,} tokens instead" in said

    place.destroy(LONG)


def test_probe_measures_one_rank_on_one_gpu_and_leaves_no_vm(place):
    """What eight GPUs would do, for the price of one of them for minutes; no weights are pulled."""
    place.stand(FOUNDATION)
    place.have_weights()
    place.settings["vllm_tokens_per_s"] = 4000
    words = ("probe", "kimi-k2.5", "--cloud", "--yes", "--json", "--out", "probed")
    try:
        found = place.mayfly(*words)
    finally:
        place.settings["vllm_tokens_per_s"] = 120

    assert (found["rank"], found["machine"], found["zone"][:11]) == (
        "1 of 8",
        "a3-highgpu-8g",
        "us-central1",
    )
    assert found["gpu_gib"] == 79.18
    assert found["difference_percent"]["kv_tokens"] == pytest.approx(0, abs=5)
    assert found["measured"]["decode batch 64"]["total_tok_s"] > 0
    assert "decode batch 64" in (place.project / "probed/kimi-k2.5-fast-tp8.log").read_text()
    assert place.resources("probe") == []
    assert not [vm for vm in vms.all_of_ours(place.cloud) if vm.session == "probe"]


def test_plan_takes_exact_sizes_out_of_the_bucket_when_weights_are_there(place):
    """The headers alone are read; the model made for the occasion is far smaller than K2.5."""
    place.stand(FOUNDATION)
    place.have_weights()
    loaded = profile.load("kimi-k2.5")
    prefix = names.model_prefix(loaded.model, loaded.revision)
    where = f"gs://{names.bucket(place.cloud.project, 'weights')}/{prefix}"

    plan = place.mayfly("plan", "kimi-k2.5", "--checkpoint", where, "--json")

    assert plan["weights_from"] == f"safetensors headers in {where}"
    assert 0 < plan["weights_gib_per_gpu"] < 1


def test_up_fails_when_google_does_not_answer(place):
    """Nobody may read a green `up` where nothing was looked at."""
    place.stand(FOUNDATION)
    before = place.resources(FOUNDATION)
    deaf = Stack(place.project, place.stack.environment | exports.endpoints(NOWHERE))

    said = deaf.up("--stack", FOUNDATION, fails=True)

    assert "connect: connection refused" in said
    assert place.resources(FOUNDATION) == before


def test_foundation_is_gone_after_destroy(place):
    """It can be taken away as a whole, and only on purpose: the weights are protected."""
    place.stand(FOUNDATION)
    place.up(FOUNDATION, "--expect-no-changes")

    said = place.pulumi(FOUNDATION, "destroy", "--yes", fails=True)
    assert "storage/bucket:Bucket" in said, said
    assert "protected" in said, said

    place.empty(place.outputs(FOUNDATION)["weights_bucket"])
    place.pulumi(FOUNDATION, "state", "unprotect", "--all", "--yes")
    place.destroy(FOUNDATION)
