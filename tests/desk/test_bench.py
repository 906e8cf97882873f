"""`mayfly bench`: test and benchmark over a tunnel of its own, kept with what the session is."""

import json
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import jsonschema
import pytest

from mayfly import cli
from mayfly.cloud import CloudError
from mayfly.commands import bench as command
from mayfly.tunnel import is_free
from tests.bench.results import SCHEMA, phase, result
from tests.bench.server import KEY, Behaviour, serving
from tests.desk.google import PROJECT, Google, stamp
from tests.machine.vllm_server import free_port
from tests.page.scene import GCLOUD
from tests.running import running
from tests.waiting import wait_until

SECRET = f"projects/{PROJECT}/secrets/k"
QUICK = ("--", "--rounds", "1", "--concurrent", "1,2", "--max-tokens", "4", "--warmup", "0")


@pytest.fixture
def session(google: Google, checkout, stub):
    """session(behaviour) brings a session "dev" up whose endpoint behaves so."""
    with ExitStack() as stack:

        def start(behaviour: Behaviour) -> None:
            url = stack.enter_context(serving(behaviour))
            port = url.rpartition(":")[2].partition("/")[0]
            stub("gcloud", GCLOUD.format(python=sys.executable, port=port))
            google.add_vm(
                "dev",
                served_model="kimi",
                api_key_secret=SECRET,
                state_bucket="state",
                machine="a3-highgpu-8g",
                provisioning="spot",
                rate_source="a table",
                rate_date="2026-11-02",
                serve_flags=["--tensor-parallel-size", "8"],
            )
            google.secrets[SECRET] = KEY
            google.serving("dev")
            google.say("dev", timeline=timeline(time.time() - 500))

        yield start


def bench(*words: str) -> int:
    """`mayfly bench` on a port of its own: other tests use the usual one at the same time."""
    return cli.main(["bench", "--port", str(free_port()), *words])


def timeline(began: float) -> str:
    spans = (("weights", 0, 100, 10**9), ("check", 100, 110, None))
    stages = [
        {
            "stage": name,
            "start": stamp(began + a),
            "end": stamp(began + b),
            "bytes": size,
            "ok": True,
        }
        for name, a, b, size in spans
    ]
    return json.dumps(stages)


def test_bench_keeps_a_result_with_what_the_session_is(session, checkout: Path, capfd):
    """A figure whose machine, flags, rate and start nobody knows is worth nothing next month."""
    session(Behaviour(gap_s=0))
    words = ["--out", "run.json", "--report", "run.html"]

    assert bench("dev", *words, *QUICK) == 0

    out, err = capfd.readouterr()
    kept = json.loads((checkout / "run.json").read_text())
    jsonschema.validate(kept, SCHEMA)
    assert [p["concurrent"] for p in kept["phases"]] == [1, 2]
    assert kept["rate"] == {"usd_per_hour": 26.0, "source": "a table", "date": "2026-11-02"}
    assert kept["phases"][0]["usd_per_m_output_tokens"] > 0
    facts = kept["session"]
    assert (facts["session"], facts["machine"]) == ("dev", "a3-highgpu-8g")
    assert facts["started_s"] == pytest.approx(210, abs=5)
    assert facts["usd"] == pytest.approx(26 / 6, rel=0.2)
    assert [s["stage"] for s in facts["timeline"]] == ["weights", "check"]
    assert "ok   no_key" in out
    assert "2 at once: 2 requests, 0 failed" in out
    assert "<svg" in (checkout / "run.html").read_text()
    assert KEY not in out + err + (checkout / "run.json").read_text()


def test_bench_prints_the_result_alone_when_asked_for_json(session, capfd):
    """Scripts read stdout; the test's lines must not be in it."""
    session(Behaviour(gap_s=0))

    assert bench("--json", *QUICK) == 0
    jsonschema.validate(json.loads(capfd.readouterr().out), SCHEMA)


def test_bench_measures_nothing_when_the_endpoint_is_open(session, checkout: Path, capfd):
    """Speed is not the first thing to know of an endpoint that anybody can use."""
    session(Behaviour(gap_s=0, open_paths=("/invocations",)))

    assert bench("dev", "--out", "run.json", *QUICK) == 1

    out, err = capfd.readouterr()
    assert "/invocations is open" in out
    assert "Nothing was measured; the session runs on" in err
    assert not (checkout / "run.json").exists()


def test_bench_exits_1_and_keeps_the_result_when_requests_fail(session, checkout: Path, capfd):
    """A failed request is a finding, not a reason to forget the others."""
    session(Behaviour(gap_s=0, dead_at=4))

    assert bench("dev", "--out", "run.json", *QUICK) == 1

    kept = json.loads((checkout / "run.json").read_text())
    jsonschema.validate(kept, SCHEMA)
    assert kept["errors"] == 3
    assert "2 x HTTP 500" in capfd.readouterr().err


def test_bench_leaves_nothing_when_it_is_terminated(session, checkout: Path):
    """A closed terminal ends it in the middle; a tunnel left behind would hold the port."""
    pace = Behaviour(gap_s=0, stalls_at=999)
    session(pace)
    port = str(free_port())
    words = ["-m", "mayfly.cli", "bench", "dev", "--port", port, "--out", "run.json", "--"]
    with running(
        [sys.executable, *words, "--rounds", "1", "--concurrent", "1", "--max-tokens", "999"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as child:
        wait_until(lambda: any(b["max_tokens"] == 999 for b in pace.bodies), 60)
        child.send_signal(signal.SIGTERM)
        said = child.communicate(timeout=60)[1]
    pace.released.set()

    assert child.returncode == 130
    assert "Interrupted: nothing was kept. The session goes on until it is idle." in said
    assert not (checkout / "run.json").exists()
    assert is_free(int(port))


def test_bench_keeps_the_figures_when_google_does_not_say_what_the_session_is(
    session, checkout: Path, capfd, monkeypatch
):
    """They took minutes of eight GPUs; a line that is down for a second must not take them."""

    def cut(*_: object) -> None:
        raise CloudError(0, "unreachable", "compute: no answer")

    session(Behaviour(gap_s=0))
    monkeypatch.setattr(command, "session_facts", cut)

    assert bench("dev", "--out", "run.json", *QUICK) == 0

    kept = json.loads((checkout / "run.json").read_text())
    jsonschema.validate(kept, SCHEMA)
    assert kept["session"] is None
    assert "is not in the result: compute: no answer" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "nowhere/run.json"], "nowhere/run.json: there is no such folder."),
        (["--", "--usd-per-hour", "1"], "--usd-per-hour: mayfly bench says this"),
        (["--", "--key=sk"], "--key=sk: mayfly bench says this"),
    ],
)
def test_bench_exits_2_before_it_begins_when_it_is_asked_wrongly(words, message, checkout, capsys):
    """Found out after ten minutes of GPU time, it would cost ten dollars."""
    assert cli.main(["bench", "dev", *words]) == 2
    assert message in capsys.readouterr().err


def test_bench_compare_and_report_read_what_was_kept(checkout: Path, capfd):
    """The verbs beside the first; their exit codes are the programs' own."""
    (checkout / "a.json").write_text(json.dumps(result(phase())))
    (checkout / "b.json").write_text(json.dumps(result(phase(mean_s=0.02, seed=1))))
    (checkout / "c.json").write_text(json.dumps(result(phase(concurrent=4))))

    assert cli.main(["bench", "compare", "a.json", "b.json"]) == 0
    assert "worse" in capfd.readouterr().out
    assert cli.main(["bench", "compare", "a.json", "c.json"]) == 2
    assert "not the same load" in capfd.readouterr().err
    assert cli.main(["bench", "report", "a.json", "b.json", "--out", "r.html"]) == 0
    assert (checkout / "r.html").read_text().count("<figure>") == 3


def test_results_that_tests_make_up_are_of_the_form_that_is_written():
    """Else the report would be tested with what nobody writes."""
    jsonschema.validate(result(phase()), SCHEMA)
