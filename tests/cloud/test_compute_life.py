"""What happens to instances in time."""

import threading
from datetime import datetime

import pytest

from local.rest.compute.life import Life
from local.rest.compute.store import Store
from local.rest.machines import NoMachines
from local.rest.world import World
from tests.cloud.conftest import ZONE, Api, message, spot_vm
from tests.waiting import wait_until

VM = f"{ZONE}/instances/mayfly-one"


def status_of(api):
    return api.get(VM)[1].get("status", "gone")


def operations(api, instance_id):
    _, answer = api.get(f"{ZONE}/operations?filter=targetId={instance_id}")
    return [o["operationType"] for o in reversed(answer.get("items", []))]


def test_insert_boots_the_machine_with_what_is_stored(api):
    """The machine reads its metadata from this resource."""
    status, operation = api.insert()

    assert (status, operation["status"]) == (200, "DONE")
    assert [("boot", operation["targetId"])] == api.world.machines.events
    _, vm = api.get(VM)
    assert vm["status"] == "RUNNING"
    assert vm["disks"][0]["source"].endswith("/disks/mayfly-one")
    ends = vm["resourceStatus"]["scheduling"]["terminationTimestamp"]
    assert ends > vm["lastStartTimestamp"]


def test_instance_answers_to_its_numeric_id(api):
    """The reaper deletes by id: a new VM under an old name is safe."""
    _, operation = api.insert()
    by_id = f"{ZONE}/instances/{operation['targetId']}"

    assert api.get(by_id)[1]["name"] == "mayfly-one"
    status, answer = api("DELETE", by_id)

    assert (status, answer["status"]) == (200, "DONE")
    assert api.get(VM)[0] == 404
    assert api("DELETE", by_id)[0] == 404


def test_reset_boots_nothing_when_the_delete_came_first(api):
    """It waited its turn; a machine without an instance would run on, and nobody could end it."""
    _, operation = api.insert()
    instance = api.world.of(Store).by_id("instances", operation["targetId"])
    api("DELETE", VM)
    before = list(api.world.machines.events)

    api.world.of(Life).reset(instance)

    assert api.world.machines.events == before


def test_delete_takes_the_auto_delete_disk_and_leaves_the_other(api):
    """A forgotten disk is a forgotten bill."""
    api.post(f"{ZONE}/disks", {"name": "kept", "sizeGb": "10"})
    extra = {"source": "zones/us-central1-a/disks/kept"}
    api.insert(disks=[*spot_vm()["disks"], extra])
    in_use = api("DELETE", f"{ZONE}/disks/kept")

    api("DELETE", VM)

    assert in_use[0] == 400
    assert "is already being used by" in message(in_use[1])
    names = [d["name"] for d in api.get(f"{ZONE}/disks")[1]["items"]]
    assert names == ["kept"]
    assert "users" not in api.get(f"{ZONE}/disks/kept")[1]


def test_delete_is_refused_when_the_instance_is_protected(api):
    """And allowed again once the guard is off."""
    api.insert(deletionProtection=True)

    status, answer = api("DELETE", VM)
    api.post(f"{VM}/setDeletionProtection?deletionProtection=false")

    assert status == 400
    assert "protected against deletion" in message(answer)
    assert api("DELETE", VM)[0] == 200


def test_time_limit_deletes_the_instance(api, clock):
    """The dead-man switch: it must work when every part of ours is dead."""
    _, operation = api.insert()
    life = api.world.of(Life)

    clock.now += 3599
    life.enforce()
    before = status_of(api)
    clock.now += 2
    life.enforce()
    wait_until(lambda: status_of(api) == "gone")

    assert before == "RUNNING"
    assert operations(api, operation["targetId"]) == ["insert", "delete"]
    _, listed = api.get(f"{ZONE}/operations?filter=operationType=delete")
    assert listed["items"][0]["user"] == "system"
    assert ("destroy", operation["targetId"]) in api.world.machines.events


def test_time_limit_stops_the_instance_when_the_action_is_stop(api, clock):
    """A stopped VM keeps its disk, and its bill."""
    scheduling = {**spot_vm()["scheduling"], "instanceTerminationAction": "STOP"}
    _, operation = api.insert(scheduling=scheduling)

    clock.now += 3601
    wait_until(lambda: status_of(api) == "TERMINATED")  # by its own timer, without a nudge

    assert operations(api, operation["targetId"]) == ["insert", "stop"]
    assert api.get(f"{ZONE}/disks/mayfly-one")[0] == 200


def test_time_limit_counts_from_running_when_the_boot_is_slow(clock, monkeypatch):
    """Waiting for capacity is not running: the limit would else eat what was paid for."""
    monkeypatch.setattr("local.rest.compute.life.ANSWER_WITHIN_S", 0.05)
    machines = Slow()
    api = Api(World("proj", machines=machines, clock=clock))
    api.insert()
    _, waiting = api.get(VM)

    clock.now += 3500
    machines.go.set()
    wait_until(lambda: status_of(api) == "RUNNING")
    clock.now += 3599
    api.world.of(Life).enforce()
    lived = status_of(api)
    clock.now += 2
    wait_until(lambda: status_of(api) == "gone")

    assert "resourceStatus" not in waiting
    assert lived == "RUNNING"


def test_time_limit_is_shown_while_the_instance_runs_only(api, clock):
    """`describe` shows when it ends; a stopped VM has no end, and must show none."""
    api.insert()
    _, running = api.get(VM)
    api.post(f"{VM}/stop")
    _, stopped = api.get(VM)
    clock.now += 100
    api.post(f"{VM}/start")
    _, again = api.get(VM)

    def ends(vm):
        shown = vm["resourceStatus"]["scheduling"]["terminationTimestamp"]
        return datetime.fromisoformat(shown).timestamp()

    assert ends(running) == clock.now - 100 + 3600
    assert "resourceStatus" not in stopped
    assert ends(again) == clock.now + 3600
    assert again["scheduling"]["maxRunDuration"] == {"seconds": "3600"}


def test_time_limit_is_not_prolonged_by_a_reset(api, clock):
    """A restart from within is no new life: who resets every hour would live for ever."""
    api.insert()
    clock.now += 3000
    api.post(f"{VM}/reset")
    reset = status_of(api)
    clock.now += 601
    wait_until(lambda: status_of(api) == "gone")

    assert reset == "RUNNING"


def test_time_limit_counts_anew_after_a_preemption_that_stopped_the_instance(api, clock):
    """Stopped by Google, started by hand: the limit holds for the new run."""
    scheduling = {**spot_vm()["scheduling"], "instanceTerminationAction": "STOP"}
    api.insert(scheduling=scheduling)
    api.post("/_local/preempt/us-central1-a/mayfly-one")
    wait_until(lambda: status_of(api) == "TERMINATED")
    clock.now += 7200
    api.world.of(Life).enforce()
    kept = status_of(api)

    api.post(f"{VM}/start")
    clock.now += 3601
    api.world.of(Life).enforce()
    wait_until(lambda: status_of(api) == "TERMINATED")

    assert kept == "TERMINATED"
    _, listed = api.get(f"{ZONE}/operations?filter=operationType=stop")
    assert [operation["user"] for operation in listed["items"]] == ["system"]


def test_time_limit_ends_at_a_given_time(api, clock):
    """terminationTime is the other way to say it."""
    scheduling = {**spot_vm()["scheduling"], "terminationTime": "2026-11-25T00:00:00Z"}
    del scheduling["maxRunDuration"]
    api.insert(scheduling=scheduling)

    clock.now = 1_795_564_801.0  # one second later
    api.world.of(Life).enforce()

    wait_until(lambda: status_of(api) == "gone")


@pytest.mark.parametrize(("action", "after"), [("DELETE", "gone"), ("STOP", "TERMINATED")])
def test_preemption_follows_the_termination_action(api, action, after):
    """The ledger tells a preemption from a stop by the operation's type."""
    _, operation = api.insert(
        scheduling={**spot_vm()["scheduling"], "instanceTerminationAction": action}
    )

    status, _ = api.post("/_local/preempt/us-central1-a/mayfly-one")
    wait_until(lambda: status_of(api) == after)

    assert status == 200
    assert operations(api, operation["targetId"]) == ["insert", "compute.instances.preempted"]
    told = [event for event, _ in api.world.machines.events]
    assert told[:3] == ["boot", "preempted", "stop"]  # the guest may read why it is stopped


def test_preemption_is_refused_when_the_instance_is_not_spot(api):
    """Only SPOT capacity is taken away."""
    machine = "zones/us-central1-a/machineTypes/e2-standard-4"
    api.insert(scheduling={}, machineType=machine)

    assert api.post("/_local/preempt/us-central1-a/mayfly-one")[0] == 404
    assert api.post("/_local/preempt/us-central1-a/nobody")[0] == 404
    assert status_of(api) == "RUNNING"


def test_guest_halt_terminates_and_lifts_the_time_limit(api, clock):
    """A VM that powered itself off has no deadline any more: the reaper must see it."""
    _, operation = api.insert()

    api.world.machines.powered_off(operation["targetId"])
    clock.now += 7200
    api.world.of(Life).enforce()

    assert status_of(api) == "TERMINATED"
    expected = ["insert", "compute.instances.guestTerminate"]
    assert expected == operations(api, operation["targetId"])
    assert "lastStopTimestamp" in api.get(VM)[1]


def test_stopped_instance_starts_again_with_a_new_time_limit(api, clock):
    """The time limit counts from each start."""
    _, inserted = api.insert()
    api.post(f"{VM}/stop")
    stopped = status_of(api)
    clock.now += 10_000

    status, operation = api.post(f"{VM}/start")
    api.world.of(Life).enforce()

    assert stopped == "TERMINATED"
    assert (status, operation["status"], status_of(api)) == (200, "DONE", "RUNNING")
    events = [event for event, _ in api.world.machines.events]
    assert events == ["boot", "stop", "boot"]
    assert inserted["targetId"] == operation["targetId"]


def test_start_is_refused_while_the_instance_stops(api):
    """Only a stopped instance starts."""
    api.insert()
    with api.world.lock:
        api.world.of(Store).all("instances")[0]["status"] = "STOPPING"

    status, answer = api.post(f"{VM}/start")

    assert status == 400
    assert "is in status STOPPING" in message(answer)


class Slow(NoMachines):
    """Machines that boot when they are told."""

    def __init__(self):
        super().__init__()
        self.go = threading.Event()

    def boot(self, instance):
        self.go.wait(60)
        super().boot(instance)


class Broken(NoMachines):
    """Machines that cannot boot."""

    def boot(self, instance):
        raise RuntimeError("no user namespaces here")


class HaltsAtOnce(NoMachines):
    """A guest whose script powers off before boot returns."""

    def boot(self, instance):
        super().boot(instance)
        self.powered_off(instance["id"])


def test_slow_boot_leaves_the_operation_running_until_it_is_over(clock, monkeypatch):
    """The answer does not wait for a slow machine; the operation does."""
    monkeypatch.setattr("local.rest.compute.life.ANSWER_WITHIN_S", 0.05)
    machines = Slow()
    api = Api(World("proj", machines=machines, clock=clock))

    _, operation = api.insert()
    early = status_of(api)
    machines.go.set()
    path = f"{ZONE}/operations/{operation['name']}"
    wait_until(lambda: api.get(path)[1]["status"] == "DONE")

    assert (operation["status"], early) == ("RUNNING", "STAGING")
    assert status_of(api) == "RUNNING"


def test_boot_that_fails_ends_in_the_operation_and_leaves_no_instance(clock, caplog):
    """A caller that polls must see an end, and the log the cause."""
    api = Api(World("proj", machines=Broken(), clock=clock))

    _, operation = api.insert()

    assert operation["error"]["errors"][0]["code"] == "INTERNAL_ERROR"
    assert status_of(api) == "gone"
    assert "no user namespaces here" in caplog.text


def test_guest_that_halts_at_once_stays_terminated(clock):
    """The halt calls back before boot returns; RUNNING must not overwrite it."""
    api = Api(World("proj", machines=HaltsAtOnce(), clock=clock))

    api.insert()

    assert status_of(api) == "TERMINATED"


def test_machines_that_come_later_get_their_callbacks(api):
    """Their ports are known only once the fake is served."""
    later = NoMachines()
    api.world.use_machines(later)

    _, operation = api.insert()
    later.powered_off(operation["targetId"])

    assert later.events == [("boot", operation["targetId"])]
    assert status_of(api) == "TERMINATED"
    principal = api.world.identity.access(later.token("node@proj.iam.gserviceaccount.com"))
    assert principal.kind == "serviceAccount"
    assert later.identity("node@proj.iam.gserviceaccount.com", "https://f").count(".") == 2


def test_guest_attributes_are_read_by_path_and_by_key(api):
    """Phase and heartbeat come this way."""
    _, operation = api.insert()
    wrote = api.world.machines.guest_attributes
    wrote(operation["targetId"], "mayfly/phase", "serving")
    wrote(operation["targetId"], "mayfly/heartbeat", "x")
    wrote(operation["targetId"], "other/key", "y")
    wrote(operation["targetId"], "mayfly/heartbeat", None)

    _, many = api.get(f"{VM}/getGuestAttributes?queryPath=mayfly/")
    _, one = api.get(f"{VM}/getGuestAttributes?variableKey=mayfly/phase")

    expected = {"namespace": "mayfly", "key": "phase", "value": "serving"}
    assert [expected] == many["queryValue"]["items"]
    assert one["variableValue"] == "serving"


@pytest.mark.parametrize("query", ["queryPath=mayfly/", "variableKey=mayfly/phase"])
def test_guest_attributes_are_404_until_something_is_written(api, query):
    """The readers take this 404 for "starting"."""
    api.insert()

    status, answer = api.get(f"{VM}/getGuestAttributes?{query}")

    assert status == 404
    assert "of type 'Guest Attribute' was not found." in message(answer)


def test_guest_attributes_are_ignored_when_the_metadata_does_not_allow_them(api):
    """Forgetting the switch must show here, not in production."""
    _, operation = api.insert(metadata={})

    api.world.machines.guest_attributes(operation["targetId"], "mayfly/phase", "serving")

    assert api.get(f"{VM}/getGuestAttributes?queryPath=mayfly/")[0] == 404


def test_serial_output_goes_on_from_where_the_last_read_ended(api):
    """`logs -f` follows this."""
    _, operation = api.insert()
    api.world.machines.output[operation["targetId"]] = "one\ntwo\n"

    _, whole = api.get(f"{VM}/serialPort")
    _, rest = api.get(f"{VM}/serialPort?port=1&start=4")
    _, none = api.get(f"{VM}/serialPort?start={whole['next']}")

    assert (whole["contents"], whole["start"], whole["next"]) == ("one\ntwo\n", "0", "8")
    assert rest["contents"] == "two\n"
    assert none["contents"] == ""
    assert api.get(f"{VM}/serialPort?port=9")[0] == 400


def test_machines_are_told_on_the_control_surface(api):
    """Tests and the demo read commands and state here."""
    _, operation = api.insert()
    api.world.machines.guest_attributes(operation["targetId"], "mayfly/phase", "serving")

    _, machines = api.get("/_local/machines")
    status, machine = api.get(f"/_local/machines/{operation['targetId']}")

    assert machines[0]["guest_attributes"]["mayfly/phase"] == "serving"
    assert (status, machine["commands"], machine["status"]) == (200, [], "RUNNING")
    assert api.get("/_local/machines/7")[0] == 404


@pytest.mark.parametrize(
    ("call", "block", "fingerprint", "body", "text"),
    [
        (
            "setMetadata",
            "metadata",
            "fingerprint",
            {"items": [{"key": "a", "value": "b"}]},
            "Supplied fingerprint does not match current metadata fingerprint.",
        ),
        ("setTags", "tags", "fingerprint", {"items": ["more"]}, "current tags fingerprint"),
        (
            "setLabels",
            None,
            "labelFingerprint",
            {"labels": {"a": "b"}},
            "Labels fingerprint either invalid or resource labels have changed",
        ),
    ],
)
def test_change_is_412_when_the_fingerprint_is_old(api, call, block, fingerprint, body, text):
    """Two writers at once: the second must look again."""
    api.insert()
    _, vm = api.get(VM)
    current = (vm[block] if block else vm)[fingerprint]

    changed = api.post(f"{VM}/{call}", {**body, fingerprint: current})
    status, answer = api.post(f"{VM}/{call}", {**body, fingerprint: current + "x"})

    assert changed[0] == 200
    assert status == 412
    assert text in message(answer)
    assert answer["error"]["errors"][0]["reason"] == "conditionNotMet"
    _, after = api.get(VM)
    assert body.items() <= (after[block] if block else after).items()


def test_machine_hears_of_changed_metadata(api):
    """A guest that waits for a metadata change must see it."""
    api.insert()
    _, vm = api.get(VM)

    api.post(f"{VM}/setMetadata", {"fingerprint": vm["metadata"]["fingerprint"], "items": []})

    assert ("update", vm["id"]) == api.world.machines.events[-1]


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("setMachineType", {"machineType": "zones/us-central1-a/machineTypes/a3-megagpu-8g"}),
        ("setServiceAccount", {"email": "a@proj.iam.gserviceaccount.com", "scopes": ["x"]}),
        ("updateShieldedInstanceConfig", {"enableSecureBoot": True}),
        ("setScheduling", {**spot_vm()["scheduling"], "maxRunDuration": {"seconds": 60}}),
    ],
)
def test_change_wants_the_instance_stopped(api, call, body):
    """The provider refuses these itself unless it may stop the VM; so does Google."""
    api.insert()
    method = "PATCH" if call == "updateShieldedInstanceConfig" else "POST"

    status, answer = api(method, f"{VM}/{call}", body)
    api.post(f"{VM}/stop")
    again, _ = api(method, f"{VM}/{call}", body)

    assert status == 400
    assert "can only be changed on a stopped instance" in message(answer)
    assert again == 200


def test_scheduling_action_changes_while_it_runs_and_is_checked(api):
    """The one part of scheduling that may change in place."""
    api.insert()
    block = {**spot_vm()["scheduling"], "instanceTerminationAction": "STOP"}

    changed = api.post(f"{VM}/setScheduling", block)
    status, answer = api.post(f"{VM}/setScheduling", {**block, "automaticRestart": True})

    assert changed[0] == 200
    assert api.get(VM)[1]["scheduling"]["instanceTerminationAction"] == "STOP"
    assert status == 400
    assert "AutomaticRestart is true" in message(answer)


def test_access_config_comes_and_goes(api):
    """A seeding VM has an external address; a GPU node must have none."""
    api.insert()
    query = "networkInterface=nic0"

    api.post(f"{VM}/addAccessConfig?{query}", {"type": "ONE_TO_ONE_NAT"})
    second = api.post(f"{VM}/addAccessConfig?{query}", {"type": "ONE_TO_ONE_NAT"})
    _, with_address = api.get(VM)
    api.post(f"{VM}/deleteAccessConfig?{query}&accessConfig=External%20NAT")
    _, without = api.get(VM)
    missing = api.post(f"{VM}/deleteAccessConfig?{query}&accessConfig=External%20NAT")

    config = with_address["networkInterfaces"][0]["accessConfigs"][0]
    assert config["natIP"].startswith("203.0.113.")
    assert "accessConfigs" not in without["networkInterfaces"][0]
    assert (second[0], missing[0]) == (400, 400)


def test_disk_grows_and_does_not_shrink(api):
    """The refusal comes in the operation; the size stays."""
    api.insert()
    path = f"{ZONE}/disks/mayfly-one"

    _, grown = api.post(f"{path}/resize", {"sizeGb": 300})
    _, shrunk = api.post(f"{path}/resize", {"sizeGb": 200})

    assert "error" not in grown
    assert "must be larger than existing size '300' GiB" in shrunk["error"]["errors"][0]["message"]
    assert api.get(path)[1]["sizeGb"] == "300"
    assert api.get(VM)[1]["disks"][0]["diskSizeGb"] == "300"


def test_one_vm_is_made_when_many_ask_for_the_same_name_at_once(api):
    """The race that two `up`s at once would run."""
    outcomes = []

    def ask():
        client = api.client.application.test_client()
        headers = {"Authorization": "Bearer fake"}
        answer = client.post(f"{ZONE}/instances", json=spot_vm(), headers=headers)
        outcomes.append(answer.status_code)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert sorted(outcomes) == [200, *[409] * 5]
    assert len(api.world.machines.events) == 1


def test_operation_ends_when_its_work_is_done_not_when_somebody_looks(api, clock):
    """Whoever reads the log later must see what came first: the ledger is told from it."""
    _, operation = api.insert()
    clock.now += 3601
    api.world.of(Life).enforce()
    wait_until(lambda: status_of(api) == "gone")
    clock.now += 100

    _, listed = api.get(f"{ZONE}/operations?filter=targetId={operation['targetId']}")

    delete = listed["items"][0]
    assert (delete["operationType"], delete["status"]) == ("delete", "DONE")
    assert delete["endTime"] == delete["startTime"]
