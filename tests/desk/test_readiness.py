"""`pulumi up` returns when the endpoint answers, or says why it will not: this is what decides."""

import json
import os
import threading
import time

import pytest

from mayfly import readiness
from tests.desk.google import PROJECT, ZONE, Google


def environment(vm_id: str, phase: str = "serving", start_s: float = 20) -> None:
    os.environ.update(
        MAYFLY_PROJECT=PROJECT,
        MAYFLY_ZONE=ZONE,
        MAYFLY_VM="mayfly-dev",
        MAYFLY_VM_ID=vm_id,
        MAYFLY_READY_PHASE=phase,
        MAYFLY_START_S=str(start_s),
    )


def stage(name: str, end: str | None, ok: bool | None = True, size: int | None = None):
    start = "2026-11-23T08:00:00.000Z"
    return {"stage": name, "start": start, "end": end, "bytes": size, "ok": ok}


def test_readiness_tells_each_stage_when_the_vm_gets_there(google: Google, capfd):
    """Twenty silent minutes at GPU prices is what users fear; stdout must stay one word."""
    environment(google.add_vm("dev"))
    google.say("dev", phase="weights", timeline=json.dumps([stage("weights", None, None)]))

    def go_on():
        deadline = time.monotonic() + 60
        while "weights: started" not in capfd.readouterr().err and time.monotonic() < deadline:
            time.sleep(0.05)
        done = stage("weights", "2026-11-23T08:00:10.000Z", size=10**10)
        google.say("dev", phase="serving", timeline=json.dumps([done]))

    later = threading.Thread(target=go_on)
    later.start()
    code = readiness.main()
    later.join()

    out, err = capfd.readouterr()
    assert (code, out) == (0, "serving\n")
    assert "weights: done in 10.0 s, 10.00 GB at 1,000 MB/s" in err


def test_readiness_ends_with_what_is_served_when_a_message_came_just_before(google: Google, capfd):
    """A fallback is told in `up`'s last line, however close it follows on another message."""
    environment(google.add_vm("dev"))
    google.say("dev", phase="checking", message="mode long failed its check")
    why = "long context failed its check (needle: not found at 67K): serving 32,768 tokens instead"

    def go_on():
        deadline = time.monotonic() + 60
        while "mode long failed" not in capfd.readouterr().err and time.monotonic() < deadline:
            time.sleep(0.05)
        google.say("dev", phase="serving", message=why)

    later = threading.Thread(target=go_on)
    later.start()
    code = readiness.main()
    later.join()

    out, err = capfd.readouterr()
    assert (code, out) == (0, "serving\n")
    assert err.splitlines()[-1] == why


def test_readiness_fails_with_reason_and_serial_when_the_vm_says_failed(google: Google, capsys):
    """The reason must be in `pulumi up`'s own output: the VM is gone minutes later."""
    environment(google.add_vm("dev"))
    google.say("dev", phase="failed", message="driver 570 and no room for another")
    google.serial["mayfly-dev"] = "\n".join(f"line {i}" for i in range(100))

    assert readiness.main() == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert "mayfly-dev in us-central1-a failed: driver 570 and no room for another" in err
    assert "| line 99" in err
    assert "| line 79\n" not in err
    assert "mayfly down dev" in err


def test_readiness_fails_when_the_vm_is_another_one(google: Google, capsys):
    """A new VM under the old name has claims of its own; they must not count for the old one."""
    google.add_vm("dev")
    google.serving("dev")
    environment("999")

    assert readiness.main() == 1

    assert "is gone" in capsys.readouterr().err


def test_readiness_names_preemption_when_google_took_the_vm(google: Google, capsys):
    """The remedy (another zone) differs from that of every other failure."""
    vm_id = google.add_vm("dev")
    google.instances[vm_id]["status"] = "TERMINATED"
    google.operations.append({"operationType": "compute.instances.preempted", "targetId": vm_id})
    environment(vm_id)

    assert readiness.main() == 1

    assert "is TERMINATED: Google preempted it" in capsys.readouterr().err


def test_readiness_fails_when_the_time_is_over(google: Google, capsys):
    """`pulumi up` must not hang for ever on a machine that costs money."""
    environment(google.add_vm("dev"), start_s=0.5)

    assert readiness.main() == 1

    assert "is still booting after" in capsys.readouterr().err


def test_readiness_is_content_when_a_seed_powered_itself_off(google: Google, capsys):
    """A seed that is done ends itself, often before the next look."""
    vm_id = google.add_vm("dev", layer="seed")
    google.say("dev", phase="seeded")
    google.instances[vm_id]["status"] = "TERMINATED"
    environment(vm_id, "seeded")

    assert readiness.main() == 0

    assert capsys.readouterr().out == "seeded\n"


def test_readiness_fails_when_a_seed_powered_off_before_it_was_done(google: Google, capsys):
    """Half a model in the bucket must not look seeded."""
    vm_id = google.add_vm("dev", layer="seed")
    google.say("dev", phase="seeding")
    google.instances[vm_id]["status"] = "TERMINATED"
    environment(vm_id, "seeded")

    assert readiness.main() == 1

    assert "is TERMINATED" in capsys.readouterr().err


def test_readiness_goes_on_when_google_does_not_answer_for_a_moment(google: Google, capsys):
    """A 503 must not fail an `up` whose machine is fine: Pulumi would say the VM is bad."""
    environment(google.add_vm("dev"))
    google.serving("dev")
    google.fail = [503] * 4  # as often as the door tries by itself

    assert readiness.main() == 0

    assert "no answer, asking again" in capsys.readouterr().err


def test_readiness_fails_at_once_when_google_says_no(google: Google, capsys):
    """A missing permission does not come with waiting."""
    environment(google.add_vm("dev"))
    google.fail = [403]

    assert readiness.main() == 1

    assert "403" in capsys.readouterr().err


@pytest.mark.parametrize("phase", ["\x1b[2Jserving", "SERVING", "ready"])
def test_readiness_fails_when_the_phase_is_no_word_of_ours(google: Google, capsys, phase: str):
    """Any process on the VM can write the phase; an unknown one means failed, as everywhere."""
    environment(google.add_vm("dev"))
    google.say("dev", phase=phase, message="\x1b[31mpwned\x07")

    assert readiness.main() == 1

    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "\x07" not in err


def test_readiness_tells_nothing_when_the_timeline_is_garbage(google: Google, capsys):
    """The timeline is a claim too; it must neither crash the wait nor flood the terminal."""
    environment(google.add_vm("dev"))
    for claim in (
        "[",
        '{"stage": 1}',
        "[1]",
        "x" * 9000,
        '[{"stage":"a","start":"soon","end":null}]',
    ):
        google.serving("dev")
        google.say("dev", timeline=claim)
        assert readiness.main() == 0
    assert "started" not in capsys.readouterr().err


def test_readiness_names_every_problem_when_the_environment_is_wrong(capsys):
    """The component and this command are two rooms; a slip between them must say what it is."""
    os.environ.update(MAYFLY_READY_PHASE="up", MAYFLY_START_S="-1")

    assert readiness.main() == 2

    err = capsys.readouterr().err
    for name in ("MAYFLY_PROJECT", "MAYFLY_ZONE", "MAYFLY_VM_ID", "'up'", "'-1'"):
        assert name in err
