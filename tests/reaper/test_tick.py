"""Whole runs of the reaper against Google's API: what is deleted, destroyed, put off, booked."""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mayfly.cloud import Cloud, CloudError
from mayfly.ledger import Record, from_json
from reaper import vm
from reaper.act import delete
from reaper.tick import Report
from tests.reaper.google import REAPER, Google
from tests.reaper.world import (
    BUCKET,
    add_engine,
    add_lock,
    add_stack,
    add_vm,
    checkpoint,
    instance,
    readiness,
    resource,
    serving,
    utc,
    vm_resource,
)

Run = Callable[..., Report]


def record_of(google: Google, number: str) -> Record:
    return from_json(google.objects[BUCKET, f"ledger/{number}.json"].data, number)


def commands(record: Path) -> list[list[str]]:
    """What each stand-in CLI was told, as its lines."""
    return [path.read_text().splitlines() for path in sorted(record.iterdir())]


def test_idle_vm_is_deleted_booked_and_its_stack_destroyed(google: Google, run: Run, record: Path):
    """The promise: nobody asks any more, and a run later nothing of it is left."""
    add_engine(google)
    add_vm(google, "42", guest=serving(idle_s=1300))
    add_stack(google, "dev", vm_resource("42"), readiness())

    report = run()

    assert report.errors == []
    assert google.instances == {}
    assert report.deleted == ["mayfly-dev"]
    assert report.destroyed == ["dev"]
    assert report.ledger == ["42"]
    row = report.vms[0]
    assert (row["end"], row["kind"], row["session"]) == (True, "idle", "dev")
    life = record_of(google, "42")
    assert life.ended_by == "reaper"
    assert life.reason == "idle for 22 min"
    assert life.seconds == pytest.approx(3600, abs=30)
    assert life.usd == pytest.approx(36.0, rel=0.01)
    assert (life.session, life.profile, life.started_by) == ("dev", "kimi-k2.5", "ann@example.com")
    assert [entry["stage"] for entry in life.timeline] == ["driver"]
    assert google.names(BUCKET, "observations/") == []
    assert len(commands(record)) == 1


def test_active_vm_is_left_alone(google: Google, run: Run, record: Path):
    """Reading a report and being cut off is the other failure."""
    add_engine(google)
    add_vm(google, "42", guest=serving())
    add_stack(google, "dev", vm_resource("42"), readiness())

    report = run()

    assert (report.deleted, report.destroyed, report.ledger, report.errors) == ([], [], [], [])
    assert "42" in google.instances
    assert report.vms[0]["kind"] == "active"
    assert google.names(BUCKET, "observations/") == ["observations/42.json"]
    assert commands(record) == []
    assert not [line for line in google.log if "stacks/mayfly/dev.json" in line]


def test_engine_runs_with_its_own_path_an_empty_folder_and_the_functions_identity(
    google: Google, run: Run, record: Path
):
    """What the function destroys with is only what the foundation gave it."""
    add_engine(google)
    add_stack(google, "dev", readiness())
    google.put(BUCKET, ".pulumi/history/mayfly/dev/dev-1.history.json", {})
    os.environ["PULUMI_CONFIG_PASSPHRASE"] = "of the function"

    run()

    lines = commands(record)[0]
    argv = [line.removeprefix("argv ") for line in lines if line.startswith("argv ")]
    assert argv == [
        *("destroy", "--refresh", "--yes", "--skip-preview", "--non-interactive"),
        *("--suppress-outputs", "--color=never", "--message=reaper: its VM is gone"),
        "--stack=organization/mayfly/dev",
    ]
    env = dict(
        line.removeprefix("export ").split("=", 1) for line in lines if line.startswith("export ")
    )
    env = {name: value.strip("'\"") for name, value in env.items()}
    assert sorted(os.listdir(env["PATH"])) == [
        "pulumi",
        "pulumi-resource-command",
        "pulumi-resource-gcp",
    ]
    assert env["PULUMI_BACKEND_URL"] == f"gs://{BUCKET}"
    assert env["PULUMI_CONFIG_PASSPHRASE"] == "of the function"
    assert env["GOOGLE_OAUTH_ACCESS_TOKEN"] == "fake"
    assert env["PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"] == "true"
    assert env["HOME"] == env["TMPDIR"]
    assert env["PULUMI_HOME"].startswith(env["HOME"])
    assert not Path(env["HOME"]).exists(), "the scratch folder is memory: it must go"
    assert "files" in lines, "the folder was not empty"


def test_cut_off_create_is_forgotten_before_the_destroy(google: Google, run: Run, record: Path):
    """A laptop that died in the first `up` leaves a create that no destroy takes away."""
    add_engine(google)
    state = checkpoint(pending=(vm_resource("", "dev"),))
    google.put(BUCKET, ".pulumi/stacks/mayfly/dev.json", state)

    report = run()

    assert report.errors == []
    assert report.destroyed == ["dev"]
    told = sorted(commands(record), key=lambda lines: "argv destroy" in lines)
    assert told[0][:2] == ["argv refresh", "argv --clear-pending-creates"]
    assert told[1][0] == "argv destroy"
    assert "files Pulumi.yaml" in told[1], "no update ended, so the engine has no configuration"


def test_deletes_are_by_number_and_go_out_before_states_are_read(google: Google, run: Run):
    """A new VM under an old name is safe, and no bucket delays the end of a VM."""
    add_engine(google)
    add_vm(google, "42", guest=serving(idle_s=1300))
    add_stack(google, "dev", vm_resource("42"))

    run()

    deletes = [
        n
        for n, line in enumerate(google.log)
        if line.endswith("/instances/42") and line.startswith("DELETE")
    ]
    states = [n for n, line in enumerate(google.log) if ".pulumi/" in line]
    assert len(deletes) == 1
    assert deletes[0] < min(states)


def test_live_lock_postpones_the_destroy_but_not_the_delete(google: Google, run: Run, record: Path):
    """Somebody's `up` is at work on the state; the GPUs stop all the same."""
    add_engine(google)
    add_vm(google, "42", guest=serving(idle_s=1300))
    add_stack(google, "dev", vm_resource("42"))
    lock = add_lock(google, "dev", age_s=300)

    report = run()

    assert report.deleted == ["mayfly-dev"]
    assert report.destroyed == []
    assert report.postponed == [{"stack": "dev", "reason": "locked by ann@laptop"}]
    assert lock in google.names(BUCKET)
    assert commands(record) == []


def test_lock_older_than_the_longest_up_is_removed(google: Google, run: Run):
    """A laptop that died in mid-up must not keep its stack for ever."""
    add_engine(google)
    add_stack(google, "dev", readiness())
    lock = add_lock(google, "dev", age_s=3700)

    report = run()

    assert report.destroyed == ["dev"]
    assert lock not in google.names(BUCKET)


def left_lease(google: Google, *, expired: bool, stack: str = "dev", since_s: float = 700) -> None:
    """The lease of a run that was killed while it destroyed a stack."""
    now = time.time()
    started = {
        "stack": stack,
        "pid": 77,
        "host": "laptop",
        "since": utc(now - since_s),
        "until": utc(now - 100),
    }
    until = utc(now - 50 if expired else now + 50)
    body = {"until": until, "holder": "x", "runs": [started]}
    google.put(BUCKET, "reaper/lease.json", body)


def test_lock_left_by_a_killed_run_is_removed_when_its_lease_is_over(google: Google, run: Run):
    """Killed in mid-destroy: the next run goes on where it stopped, not an hour later."""
    add_engine(google)
    add_stack(google, "dev", readiness())
    left_lease(google, expired=True)
    add_lock(google, "dev", age_s=695)

    report = run()

    assert report.destroyed == ["dev"]
    assert google.names(BUCKET, ".pulumi/locks/") == []
    assert google.read(BUCKET, "reaper/lease.json")["runs"] == []


@pytest.mark.parametrize(
    "lock",
    [
        {"pid": 78, "age_s": 695},
        {"host": "other", "age_s": 695},
        {"age_s": 300},
    ],
)
def test_lock_of_somebody_else_stays_though_a_run_was_killed(
    google: Google, run: Run, lock: dict[str, Any]
):
    """Only the very process that died left a lock: another pid, host or time is a live one."""
    add_engine(google)
    add_stack(google, "dev", readiness())
    left_lease(google, expired=True)
    add_lock(google, "dev", **lock)

    report = run()

    assert report.destroyed == []
    assert len(google.names(BUCKET, ".pulumi/locks/")) == 1
    assert len(google.read(BUCKET, "reaper/lease.json")["runs"]) == 1, "it is still to be found"


def test_destroys_wait_while_another_run_holds_the_lease(google: Google, run: Run, record: Path):
    """Two ticks at once: both delete VMs, one destroys stacks."""
    add_engine(google)
    add_vm(google, "42", guest=serving(idle_s=1300))
    add_stack(google, "dev", vm_resource("42"))
    left_lease(google, expired=False)

    report = run()

    assert report.deleted == ["mayfly-dev"]
    assert report.postponed == [{"stack": "dev", "reason": "another run of the reaper is at work"}]
    assert commands(record) == []


def test_two_runs_at_once_do_no_harm(google: Google, run: Run, record: Path):
    """The platform may briefly start a second instance."""
    add_engine(google)
    for number in range(40, 46):
        add_vm(google, str(number), f"s{number}", guest=serving(idle_s=1300))
        add_stack(google, f"s{number}", vm_resource(str(number), f"s{number}"))
    reports: list[Report] = []
    threads = [threading.Thread(target=lambda: reports.append(run())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert [error for report in reports for error in report.errors] == []
    assert google.instances == {}
    stacks = [line for told in commands(record) for line in told if "--stack=" in line]
    destroyed = sorted(stack for report in reports for stack in report.destroyed)
    assert len(stacks) == len(destroyed) >= 6
    assert set(destroyed) == {f"s{number}" for number in range(40, 46)}
    written = sorted(number for report in reports for number in report.ledger)
    assert len(google.names(BUCKET, "ledger/")) == 6
    assert written == [str(number) for number in range(40, 46)], "each is one run's alone"


def test_one_stacks_failure_does_not_stop_the_others(google: Google, run: Run):
    """A single broken state must not keep the debris of all sessions."""
    add_engine(google)
    for stack in ("a", "b", "c"):
        add_stack(google, stack, readiness())
    google.put(BUCKET, ".pulumi/stacks/mayfly/d.json", b"{half")
    os.environ["FAKE_PULUMI"] = "fail-b"

    report = run()

    assert report.destroyed == ["a", "c"]
    assert sorted(error.split(":")[0] for error in report.errors) == ["stack b", "stack d"]
    assert any("just me" in error for error in report.errors)
    assert any("its state cannot be read" in error for error in report.errors)


def test_vm_dies_by_its_own_verdict_when_the_state_bucket_is_unreadable(google: Google, run: Run):
    """A stack that cannot be read is never a reason to delete a VM, nor to keep one."""
    add_vm(google, "42", guest=serving(idle_s=2200))
    add_vm(google, "43", "busy", guest=serving())
    google.faults = [("storage", 500)] * 40

    report = run()

    assert report.deleted == ["mayfly-dev"]
    assert "43" in google.instances
    assert any(error.startswith("leases: ") for error in report.errors)


def test_idle_vm_waits_three_runs_when_its_lease_may_be_hidden(google: Google, run: Run):
    """`mayfly keep` may hold it; a bucket that is down for a moment must not undo that."""
    add_vm(google, "42", guest=serving(idle_s=1300))
    google.faults = [("storage", 500)] * 2

    report = run()

    assert report.deleted == []
    assert report.vms[0]["kind"] == "idle"


def test_lease_holds_an_idle_vm_and_a_garbled_one_does_not(google: Google, run: Run):
    """`mayfly keep 2h` is read here too, so that no layer ends what another keeps."""
    add_vm(google, "42", guest=serving(idle_s=1300))
    add_vm(google, "43", "odd", guest=serving(idle_s=1300))
    google.put(BUCKET, "leases/dev", {"until": utc(time.time() + 600), "by": "ann"})
    google.put(BUCKET, "leases/odd", {"until": "tomorrow"})

    report = run()

    assert report.deleted == ["mayfly-odd"]
    assert report.vms[0]["kind"] == "leased"
    assert report.errors == ["leases/odd is not understood; it does not count"]


def test_vm_whose_attributes_cannot_be_read_lives_until_its_deadline(google: Google, run: Run):
    """An API that is down for a moment is not an idle VM; the deadline holds regardless."""
    add_vm(google, "42", guest=serving(idle_s=1300))
    add_vm(google, "43", "old", guest=serving(), age_s=14500)
    google.faults = [("getGuestAttributes", 500)] * 4

    report = run()

    assert report.deleted == ["mayfly-old"]
    assert report.vms[0]["kind"] == "unknown"
    assert len(report.errors) == 2


def test_vm_without_a_stack_is_deleted_and_booked(google: Google, run: Run, record: Path):
    """A failed `up` may leave the VM outside the state: it is judged like any other."""
    add_vm(google, "42", guest=serving(idle_s=1300))

    report = run()

    assert report.deleted == ["mayfly-dev"]
    assert report.ledger == ["42"]
    assert report.errors == []
    assert commands(record) == []


def test_stack_without_a_vm_is_destroyed(google: Google, run: Run):
    """Deleted by hand in the console: the rest goes, and the book says by whom."""
    add_engine(google)
    gone = add_vm(google, "42")
    del google.instances["42"]
    google.operation("delete", gone, time.time() - 600, "bob@example.com")
    add_stack(google, "dev", vm_resource("42"), readiness())

    report = run()

    assert report.destroyed == ["dev"]
    life = record_of(google, "42")
    assert (life.ended_by, life.reason) == ("user", "delete by bob@example.com")
    assert life.seconds == pytest.approx(3000, abs=5)
    assert (life.session, life.usd_per_h) == ("dev", 36.0), "known from the stack's state"


def test_halted_vm_is_deleted_and_its_watchdog_named(google: Google, run: Run):
    """Powered off by its own watchdog: its disk still costs, and its reason is in the book."""
    add_engine(google)
    ended = {"phase": "ended", "message": "idle for 20 min"}
    halted = add_vm(google, "42", status="TERMINATED", guest={**serving(), **ended})
    google.operation("compute.instances.guestTerminate", halted, time.time() - 1800)
    add_stack(google, "dev", vm_resource("42"))

    report = run()

    assert report.deleted == ["mayfly-dev"]
    assert report.destroyed == ["dev"]
    life = record_of(google, "42")
    assert (life.ended_by, life.reason) == ("watchdog", "idle for 20 min")
    assert life.seconds == pytest.approx(1800, abs=5), "the halt ended the bill, not the delete"


def test_preempted_vm_is_deleted_and_booked_as_preempted(google: Google, run: Run):
    """Spot: Google stopped it; nobody here did anything wrong."""
    halted = add_vm(google, "42", status="TERMINATED", guest=serving())
    google.operation("compute.instances.preempted", halted, time.time() - 60)

    run()

    life = record_of(google, "42")
    assert (life.ended_by, life.reason) == ("google", "preempted")


def test_slow_delete_is_followed_up_by_the_next_run(google: Google, run: Run):
    """A GPU VM takes minutes to go: its stack waits, its reason is not forgotten."""
    add_engine(google)
    add_vm(google, "42", guest=serving(idle_s=1300))
    add_stack(google, "dev", vm_resource("42"))
    google.slow_delete = True

    first = run(tick_s=4)

    assert (first.deleted, first.destroyed, first.ledger) == (["mayfly-dev"], [], [])
    google.slow_delete = False
    for operation in google.operations:
        operation.setdefault("endTime", operation["startTime"])
        operation["status"] = "DONE"
    second = run()

    assert second.destroyed == ["dev"]
    life = record_of(google, "42")
    assert (life.ended_by, life.reason) == ("reaper", "idle for 22 min")


def test_stack_is_left_alone_while_another_vm_has_its_vms_name(
    google: Google, run: Run, record: Path
):
    """Two users on one session name: a destroy by name would take the other's VM."""
    add_engine(google)
    add_vm(google, "43", guest=serving())
    del google.instances["43"]["labels"]["mayfly"]
    add_stack(google, "dev", vm_resource("42"))

    report = run()

    assert report.destroyed == []
    assert report.postponed == [
        {"stack": "dev", "reason": "another VM has the name mayfly-dev by now"}
    ]
    assert "43" in google.instances
    assert commands(record) == []


@pytest.mark.parametrize(
    ("stack", "resources"),
    [
        ("foundation", (readiness(),)),
        ("base", (readiness(), resource("gcp:storage/bucket:Bucket", "weights"))),
        ("kept", ({**readiness(), "protect": True},)),
        ("empty", ()),
    ],
)
def test_stack_that_is_not_a_session_is_never_destroyed(
    google: Google, run: Run, record: Path, stack: str, resources: tuple[dict[str, Any], ...]
):
    """The reaper must not be able to take the weights, nor itself."""
    add_engine(google)
    add_stack(google, stack, *resources)

    report = run()

    assert (report.destroyed, report.errors, commands(record)) == ([], [], [])


def test_foundations_state_is_not_even_read(google: Google, run: Run):
    """The function's role has no right to it: asking would be an error every five minutes."""
    add_stack(google, "foundation", readiness())

    run()

    assert not [line for line in google.log if "foundation" in line]


def test_failed_launch_is_booked_with_no_cost(google: Google, run: Run):
    """A launch that Google refused is part of the history, not of the bill."""
    never = instance("42")
    error = {"errors": [{"code": "ZONE_RESOURCE_POOL_EXHAUSTED", "message": "no H100 here"}]}
    google.operation("insert", never, time.time() - 60, "ann@example.com", error=error)

    report = run()

    assert report.ledger == ["42"]
    life = record_of(google, "42")
    assert (life.seconds, life.usd, life.ended_by) == (0, 0, "google")
    assert life.reason == "it was never started: ZONE_RESOURCE_POOL_EXHAUSTED: no H100 here"


def test_life_is_booked_once_whatever_comes_after(google: Google, run: Run):
    """Every dollar once: the next runs find the record and leave it."""
    add_vm(google, "42", guest=serving(idle_s=1300))
    run()
    before = google.objects[BUCKET, "ledger/42.json"]

    report = run()

    assert report.ledger == []
    assert google.objects[BUCKET, "ledger/42.json"] is before


def test_launch_in_progress_is_not_booked(google: Google, run: Run):
    """Flex-start may wait for hours before the VM is there to be listed."""
    waiting = instance("42")
    made = google.operation("insert", waiting, time.time() - 60, status="RUNNING")
    del made["endTime"]

    assert run().ledger == []


def test_settings_that_are_garbled_fall_back_to_defaults(google: Google, run: Run):
    """Whoever edits a VM's metadata cannot make it live for ever, nor break the run."""
    add_vm(google, "42", guest=serving(idle_s=1300), settings="{garbled")
    hostile = {"idle_s": 1e300, "max_life_s": "never", "start_s": -1, "hourly_usd": True}
    add_vm(google, "43", "odd", guest=serving(), settings=hostile)

    report = run()

    assert report.deleted == ["mayfly-dev"]
    ends = report.vms[1]["ends_at"]
    assert ends is not None
    assert ends <= utc(time.time() + 14400)
    assert record_of(google, "42").usd is None


def test_vm_that_is_labelled_but_not_named_ours_is_left_and_reported(google: Google, run: Run):
    """Deletes need the label, the name and the role's condition alike."""
    add_vm(google, "42", guest=serving(idle_s=1300))
    google.instances["42"]["name"] = "database"

    report = run()

    assert (report.vms, report.deleted) == ([], [])
    assert "left alone" in report.errors[0]


def test_foundation_and_strangers_are_not_looked_at(google: Google, run: Run):
    """The label says which layer a VM is of; only seeds and sessions end."""
    add_vm(google, "42", guest=serving(idle_s=1300))
    google.instances["42"]["labels"]["mayfly"] = "foundation"

    assert run().vms == []


def test_every_page_is_read(google: Google, run: Run):
    """The forgotten VM is the one on the second page."""
    google.page = 1
    for number in range(40, 44):
        add_vm(google, str(number), f"s{number}", guest=serving(idle_s=1300))

    report = run()

    assert len(report.deleted) == 4
    assert len(report.ledger) == 4


def test_run_fails_when_the_vms_cannot_be_listed(google: Google, run: Run):
    """A run that saw nothing must not read as "nothing to do"."""
    google.faults = [("aggregated/instances", 500)] * 2

    with pytest.raises(CloudError, match="aggregated/instances"):
        run()


def test_delete_that_is_refused_is_reported_and_the_rest_goes_on(google: Google, run: Run):
    """Deletion protection, say: one VM's trouble is its own."""
    add_vm(google, "42", guest=serving(idle_s=1300))
    add_vm(google, "43", "b", guest=serving(idle_s=1300))
    google.faults = [("DELETE .*/instances/42", 400)]

    report = run()

    assert report.deleted == ["mayfly-b"]
    assert "instances/42: 400" in report.errors[0]


def test_vm_is_deleted_by_name_when_its_number_is_refused(google: Google, run: Run):
    """A role that is bound to names may not know the number; the GPUs must stop all the same."""
    add_vm(google, "42", guest=serving(idle_s=1300))
    google.names_only = True

    report = run()

    assert (report.deleted, report.errors, report.ledger) == (["mayfly-dev"], [], ["42"])
    assert record_of(google, "42").ended_by == "reaper"


def test_new_vm_under_an_old_name_is_safe_when_the_number_is_refused(cloud: Cloud, google: Google):
    """Between the look and the delete the name has come to mean another VM."""
    old = vm.parse(add_vm(google, "42", guest=serving(idle_s=1300)))
    del google.instances["42"]
    add_vm(google, "43", guest=serving())
    google.names_only = True

    assert delete(cloud, old) is None
    assert "43" in google.instances


def test_delete_that_is_refused_by_name_too_is_a_failure(cloud: Cloud, google: Google):
    """The role lacks the right altogether: the error says so, nothing is called deleted."""
    one = vm.parse(add_vm(google, "42", guest=serving(idle_s=1300)))
    google.names_only = True
    google.faults = [("DELETE .*/instances/mayfly-dev", 403)]

    with pytest.raises(CloudError, match="instances/mayfly-dev: 403"):
        delete(cloud, one)


def test_many_vms_and_stacks_are_seen_well_below_googles_read_quota(google: Google, run: Run):
    """Compute allows 1500 reads a minute and project; a run every five minutes must not matter."""
    for number in range(200):
        add_vm(google, str(1000 + number), f"s{number}", guest=serving())
    for number in range(100):
        add_stack(google, f"t{number}", vm_resource(str(number), f"t{number}"))

    report = run()

    assert len(report.vms) == 200
    reads = [line for line in google.log if "/compute/" in line and "/mayfly-t" not in line]
    assert len(reads) == 202, "one page of VMs, one of operations, and each VM's own words"
    assert report.pages == 107, "seven lists, and the locks of each stack whose VM is gone"
    assert report.calls < 800


def test_calls_are_counted(google: Google, run: Run):
    """Quotas are per minute and project: a run says what it used."""
    add_vm(google, "42", guest=serving())

    assert run().calls == len(google.log)


@pytest.mark.parametrize("mode", ["hang", "stubborn"])
def test_destroy_that_takes_too_long_is_ended_and_its_lock_removed(
    google: Google, run: Run, record: Path, mode: str
):
    """A run ends before the function's own limit, whatever the engine does."""
    add_engine(google)
    add_stack(google, "dev", readiness())
    os.environ["FAKE_PULUMI"] = mode

    report = run(tick_s=2)

    assert report.destroyed == []
    assert report.postponed == [{"stack": "dev", "reason": "it took too long for one run"}]
    pid = int(next(record.iterdir()).name.rpartition(".")[2])
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert google.read(BUCKET, "reaper/lease.json")["runs"] == []


def test_stack_that_somebody_locked_meanwhile_is_postponed(google: Google, run: Run):
    """Between our look and the engine's there is room for an `up`."""
    add_engine(google)
    add_stack(google, "dev", readiness())
    os.environ["FAKE_PULUMI"] = "locked"

    report = run()

    assert report.errors == []
    assert report.postponed == [{"stack": "dev", "reason": "locked by somebody else"}]


def test_stack_that_serves_again_by_its_turn_is_postponed(google: Google, run: Run, record: Path):
    """A destroy may wait minutes behind others; an `up` in that time made a VM that is in use."""
    add_engine(google)
    add_stack(google, "dev", vm_resource("42"))
    somebody = (r"^GET .*engine/", lambda: add_stack(google, "dev", vm_resource("43")))
    google.meanwhile.append(somebody)

    report = run()

    assert report.destroyed == []
    assert report.postponed == [{"stack": "dev", "reason": "somebody has changed it meanwhile"}]
    assert commands(record) == []


def test_missing_engine_is_named_and_costs_no_delete(google: Google, run: Run):
    """Nobody has put the engine there yet: GPUs still stop."""
    add_vm(google, "42", guest=serving(idle_s=1300))
    add_stack(google, "dev", vm_resource("42"))

    report = run()

    assert report.deleted == ["mayfly-dev"]
    assert "engine/manifest.json is missing" in report.errors[0]
    assert "pulumi destroy --stack" in report.errors[0]
    assert google.read(BUCKET, "reaper/lease.json")["until"] < utc(time.time())


def test_reapers_own_account_is_the_one_that_deletes(google: Google, run: Run):
    """The book tells the reaper's delete by its operation, not by a name that may change."""
    add_vm(google, "42", guest=serving(idle_s=1300))

    run()

    assert [o["user"] for o in google.operations if o["operationType"] == "delete"] == [REAPER]
    assert record_of(google, "42").ended_by == "reaper"


def test_observation_holds_what_the_ledger_will_need(google: Google, run: Run):
    """A VM may be gone before the next look: this is all that is left of it."""
    add_vm(google, "42", guest=serving(message="64 of 64\x1b[2J shards"))

    run()

    seen = json.loads(google.objects[BUCKET, "observations/42.json"].data)
    assert seen["settings"]["profile"] == "kimi-k2.5"
    assert seen["message"] == "64 of 64 [2J shards"
    assert seen["ending"] is None


def test_cloud_is_shared_between_threads_without_losing_a_call(cloud: Cloud, google: Google):
    """Sixteen looks at once, one counter."""
    for number in range(30):
        add_vm(google, str(number), f"s{number}", guest=serving())
    from reaper.observe import closer, listed
    from reaper.parallel import each

    seen = each(listed(cloud, BUCKET).vms, lambda vm: closer(cloud, vm))

    assert len(seen) == 30
    assert cloud.calls == len(google.log) == 32
