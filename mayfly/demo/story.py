"""The story itself: one function a step, in the order in which it is told."""

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mayfly import names, vms
from mayfly.benched import rate_words, session_facts, thinking_words
from mayfly.cloud import connect
from mayfly.demo import cloud as local_cloud
from mayfly.demo import machine
from mayfly.demo.cloud import LocalCloud
from mayfly.demo.crew import Child, Crew
from mayfly.demo.evidence import Witness, claim
from mayfly.demo.stopwatch import Timeline
from mayfly.demo.workshop import CLEAN_SESSION, FOUNDATION, SEED, SESSION, make_project
from mayfly.project import CHECKOUT, Project

# What the first session's machine is born with: the image's old driver, and GIB in all its forms.
OLD_IMAGE = {"driver": "570.195.03", "gib": "true"}
CLEAN_IMAGE = {"driver": "580.159.04", "gib": "false"}
# Five minutes between two looks of the reaper become five seconds.
SETTINGS = OLD_IMAGE | {"scheduler_speedup": "60"}

# Why no figure of the story's stands beside a GPU's.
STAND_IN = "a stand-in's pace on this machine, not a GPU's"

UP = ("up", "--yes", "--skip-preview")
UP_LIMIT_S, GONE_LIMIT_S, CONNECT_LIMIT_S = 420, 180, 60
OUTPUTS = ("endpoint_url", "connect_command", "ssh_command", "deadline", "hourly_usd", "api_key")

# The caller's own accounts and settings must not reach into the story.
FOREIGN = ("GOOGLE_", "GCLOUD_", "CLOUDSDK_", "PULUMI_", "GCE_", "STORAGE_", "HF_", "BOTO_")


@dataclass
class Scene:
    """What every step needs."""

    timeline: Timeline
    crew: Crew
    cloud: LocalCloud
    project: Project
    witness: Witness
    facts: dict[str, Any] = field(default_factory=dict)

    def pulumi(self, *words: str, limit_s: float = UP_LIMIT_S) -> str:
        """One pulumi command to its end; its stdout."""
        return self.crew.finish(self.start_pulumi(*words), limit_s)

    def start_pulumi(self, *words: str) -> Child:
        """One pulumi command, started."""
        command = ["pulumi", *words, "--non-interactive", "--color", "never"]
        return self.crew.start(f"pulumi-{words[0]}", command, self.project.root)

    def until(self, what: str, done: Any) -> None:
        """Wait for something that the cloud does by itself."""
        self.crew.until(what, done, GONE_LIMIT_S, poll_s=0.5)


def tell_story(*, fast: bool, place: Path, timeline: Timeline) -> dict[str, Any]:
    """The whole story; its facts. Raises FailedError at the first claim that does not hold."""
    crew = Crew(place / "logs", timeline.tell)
    try:
        scene = open_scene(place, timeline, crew)
        bring_foundation_up(scene)
        seed_vm = bring_weights(scene)
        session_vm = bring_session_up(scene, seed_vm)
        use_session(scene, session_vm)
        wait_until_gone(scene, session_vm)
        check_what_is_left(scene, session_vm)
        if not fast:
            show_clean_image(scene)
        return scene.facts | {"rest_calls": scene.cloud.read("calls")["count"]}
    finally:
        crew.stop_all()


def own_environment(place: Path) -> None:
    """Drop what would lead out of the story: credentials, endpoints, backends, proxies.

    place: temporary files of everything in the story go below it, and go with it.
    """
    for name in [n for n in os.environ if n.startswith(FOREIGN)]:
        del os.environ[name]
    os.environ["TMPDIR"] = str(place / "tmp")
    (place / "tmp").mkdir()
    # `make engine` links pulumi, its language host and gsutil beside our Python.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"


def open_scene(place: Path, timeline: Timeline, crew: Crew) -> Scene:
    """Start the local cloud and make the project folder."""
    own_environment(place)
    with timeline.stage("local cloud up"):
        cloud = local_cloud.start(crew, place / "cloud", SETTINGS)
    os.environ.update(cloud.exports)
    folder = place / "project"
    folder.mkdir()
    project = make_project(folder, cloud.project)
    witness = Witness(connect(cloud.project), names.bucket(cloud.project, "state"))
    return Scene(timeline, crew, cloud, project, witness)


def bring_foundation_up(scene: Scene) -> None:
    """Network, identities, buckets, secrets and the reaper."""
    with scene.timeline.stage("foundation up"):
        scene.pulumi("stack", "init", FOUNDATION)
        up = scene.start_pulumi(*UP, "--stack", FOUNDATION)
        for stack in (SEED, SESSION):
            scene.pulumi("stack", "init", stack)
        scene.crew.finish(up, UP_LIMIT_S)
    function = scene.cloud.read("functions")[0]
    claim("the reaper is a process of its own", function["pid"] not in (0, os.getpid()), function)
    scene.facts["reaper_pid"] = function["pid"]
    scene.facts["foundation_generation"] = scene.witness.generation(FOUNDATION)


def bring_weights(scene: Scene) -> vms.Vm:
    """The model's files, from the hub into the bucket, by a machine that ends itself."""
    with scene.timeline.stage("seed up: hub to bucket"):
        up = scene.start_pulumi(*UP, "--stack", SEED)
        vm = see_vm(scene, SEED, up)
        scene.crew.finish(up, UP_LIMIT_S)
    uri = str(vm.settings["weights_uri"])
    problems = scene.witness.weights_problems(uri)
    claim("the weights are whole", not problems, problems[:3])
    scene.facts["weights_uri"] = uri
    return vm


def see_vm(scene: Scene, session: str, up: Child) -> vms.Vm:
    """The VM of a stack that is coming up, as soon as it exists."""
    found: list[vms.Vm] = []

    def seen() -> bool:
        found.extend(vm for vm in [scene.witness.vm(session)] if vm)
        return bool(found) or up.ended()

    scene.crew.until(f"the VM of {session}", seen, UP_LIMIT_S, up, poll_s=0.5)
    if not found:
        scene.crew.finish(up, 0)
        claim(f"{session} has a VM", False, "pulumi ended without one")
    return found[0]


def bring_session_up(scene: Scene, seed_vm: vms.Vm) -> vms.Vm:
    """The GPU VM, from the bucket to an endpoint; meanwhile the reaper takes the seed away."""
    with scene.timeline.stage("session up: bucket to endpoint"):
        up = scene.start_pulumi(*UP, "--stack", SESSION)
        with scene.timeline.stage("seed reaped"):
            scene.until("the reaper to take the seed away", lambda: is_reaped(scene, SEED, seed_vm))
        scene.crew.finish(up, UP_LIMIT_S)
    vm = scene.witness.vm(SESSION)
    claim("the session has a VM", vm)
    assert vm is not None
    evidence = machine.evidence(scene.cloud.read(f"machines/{vm.id}"))
    scene.timeline.tell(f"  {evidence}")
    claim("the driver was upgraded", evidence.driver_upgrade)
    claim("GIB was removed", evidence.gib_removal)
    scene.facts["outputs"] = read_outputs(scene, SESSION)
    return vm


def is_reaped(scene: Scene, stack: str, vm: vms.Vm) -> bool:
    """Whether nothing of a stack is left, and the reaper has written down what it did."""
    witness = scene.witness
    if not witness.is_gone(vm) or witness.resources(stack):
        return False
    # pulumi writes its history after the state, the reaper its record after that.
    return "destroy" in witness.history(stack) and witness.record(vm) is not None


def read_outputs(scene: Scene, stack: str) -> dict[str, Any]:
    """A stack's outputs; pulumi masks the secret ones."""
    outputs: dict[str, Any] = json.loads(scene.pulumi("stack", "output", "--json", "-s", stack))
    missing = [name for name in OUTPUTS if not outputs.get(name)]
    claim("the session has its outputs", not missing, f"missing: {', '.join(missing)}")
    claim("the API key is masked", outputs["api_key"] == "[secret]", "it is shown in clear")
    return outputs


def use_session(scene: Scene, vm: vms.Vm) -> None:
    """Connect as a user does, ask everything once, measure."""
    with scene.timeline.stage("tunnel"):
        connection = connect_to(scene, SESSION)
    os.environ["OPENAI_BASE_URL"] = connection["base_url"]
    os.environ["OPENAI_API_KEY"] = connection["api_key"]
    with scene.timeline.stage("inference test"):
        test = [sys.executable, str(CHECKOUT / "bench" / "test_inference.py"), "--json"]
        told = scene.crew.run("inference-test", [*test, *thinking_words(vm)], CHECKOUT)
        scene.facts["inference"] = json.loads(told)
    with scene.timeline.stage("benchmark"):
        session = session_facts(scene.witness.cloud, vm) | {"basis": STAND_IN}
        scene.facts["benchmark"] = benchmark(scene, vm) | {"session": session}


def connect_to(scene: Scene, session: str) -> dict[str, Any]:
    """`mayfly connect`, held open for the rest of the story: a tunnel alone is no use."""
    command = [sys.executable, "-m", "mayfly.cli", "connect", session, "--json", "--show-key"]
    child = scene.crew.start("connect", command, scene.project.root)

    def connected() -> bool:
        return child.out.read_text().endswith("\n") or child.ended()

    scene.crew.until("the tunnel", connected, CONNECT_LIMIT_S, child)
    claim("mayfly connect brings the endpoint here", not child.ended(), child.tail())
    found: dict[str, Any] = json.loads(child.out.read_text())
    return found


def benchmark(scene: Scene, vm: vms.Vm) -> dict[str, Any]:
    """The benchmark's own report."""
    words = ["--rounds", "3", "--concurrent", "2", "--max-tokens", "64", "--json", *rate_words(vm)]
    command = [sys.executable, str(CHECKOUT / "bench" / "benchmark.py"), *words]
    report: dict[str, Any] = json.loads(scene.crew.run("benchmark", command, CHECKOUT))
    for phase in report["phases"]:
        rate = phase["tokens_per_s"]["p50"]
        scene.timeline.tell(f"  {phase['concurrent']} at once: {rate:.0f} tokens/s a request")
    return report


def wait_until_gone(scene: Scene, vm: vms.Vm) -> None:
    """Nobody asks any more; nobody here does anything about it."""
    with scene.timeline.stage("silence, until it is gone"):
        scene.until(
            "its own rule, and the reaper, to end the session",
            lambda: is_reaped(scene, SESSION, vm),
        )


def check_what_is_left(scene: Scene, vm: vms.Vm) -> None:
    """Nothing of the session; foundation and weights whole; one record of what it cost."""
    witness = scene.witness
    left = witness.left(SESSION, vm)
    claim("nothing of the session is left", not left, left)
    untouched = witness.generation(FOUNDATION) == scene.facts.pop("foundation_generation")
    claim("the foundation's state is untouched", untouched and witness.resources(FOUNDATION))
    missing = witness.foundation_problems(vm.zone.rpartition("-")[0])
    claim("the foundation is whole", not missing, f"missing: {', '.join(missing)}")
    problems = witness.weights_problems(scene.facts["weights_uri"])
    claim("the weights are still whole", not problems, problems[:3])
    history = witness.history(SESSION)
    claim("the state's history tells of it", {"update", "destroy"} <= set(history), history)
    record = witness.record(vm)
    claim("the ledger has a record", record)
    assert record is not None
    claim(
        "the record has seconds and dollars", record.seconds > 0 and (record.usd or 0) > 0, record
    )
    claim("it ended for being idle", "idle" in record.reason, record.reason)
    scene.facts["benchmark"]["session"] |= {"seconds": record.seconds, "usd": record.usd}
    scene.facts["state_history"] = history
    scene.facts["teardown"] = {
        "reason": record.reason,
        "ended_by": record.ended_by,
        "resources_left": left,
        "vm_seconds": record.seconds,
        "usd": record.usd,
    }


def show_clean_image(scene: Scene) -> None:
    """A machine whose image has the right driver and no GIB is left as it is."""
    scene.cloud.change(**CLEAN_IMAGE)
    with scene.timeline.stage("second session up"):
        scene.pulumi("stack", "init", CLEAN_SESSION)
        scene.pulumi(*UP, "--stack", CLEAN_SESSION)
    vm = scene.witness.vm(CLEAN_SESSION)
    claim("the second session has a VM", vm)
    assert vm is not None
    evidence = machine.evidence(scene.cloud.read(f"machines/{vm.id}"))
    scene.timeline.tell(f"  {evidence}")
    claim("a clean image needs no driver", not evidence.driver_upgrade, evidence.driver_upgrade)
    claim("a clean image has no GIB to remove", not evidence.gib_removal, evidence.gib_removal)
    with scene.timeline.stage("second session down"):
        down = [sys.executable, "-m", "mayfly.cli", "down", CLEAN_SESSION, "--yes"]
        scene.crew.run("down", down, scene.project.root)
    left = scene.witness.left(CLEAN_SESSION, vm)
    claim("nothing of the second session is left", not left, left)
