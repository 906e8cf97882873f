"""One rank measured on the VM: its figures are kept, whatever the engine made of them."""

import json

import pytest

from startup import serve

CASE = json.dumps({"config": {"quantization": "re:.*\\.mlp'$x"}, "decode": [1]})
DONE = 'RESULT {"decode batch 1": {}}\nRESULT {"gpu_gib": 79.18}\n'


@pytest.fixture
def engine(machine):
    """leaves(text): a unit that writes this to its log and ends."""

    def leaves(text: str) -> None:
        log, said = machine.root / "var/log/mayfly/vllm.log", machine.root / "said"
        said.write_text(text)
        body = f'case "$1" in restart) cat {said} >>{log} ;; is-active) exit 3 ;; esac'
        machine.stub("systemctl", body=body)

    return leaves


def kept(machine) -> str:
    (log,) = machine.google.buckets.glob("*/probes/43/engine.log")
    return log.read_text()


def test_rank_stage_keeps_the_log_under_the_vms_number_when_all_is_measured(
    engine, machine, run_stage
):
    """The VM is gone a minute later; two probes of one stack must not meet."""
    engine(DONE)

    result = run_stage("rank.sh", MAYFLY_CASE=CASE)

    assert result.returncode == 0, result.stderr
    assert kept(machine) == DONE


def test_rank_stage_says_the_engines_last_words_when_it_died(engine, machine, run_stage):
    """What was measured before is kept; the reason is what the user reads."""
    engine('RESULT {"ready_s": 60}\ntorch.OutOfMemoryError: CUDA out of memory\n')

    result = run_stage("rank.sh", MAYFLY_CASE=CASE)

    assert result.returncode == 1
    assert "CUDA out of memory" in machine.why("rank.sh")
    assert "ready_s" in kept(machine)


def test_unit_starts_the_measurement_with_the_very_case_when_a_rank_is_asked_for(
    engine, machine, run_stage, monkeypatch
):
    """Quotes and backslashes of a config.json pass a shell, or another model is measured."""
    engine(DONE)
    run_stage("rank.sh", MAYFLY_CASE=CASE)
    monkeypatch.setenv("MAYFLY_ROOT", str(machine.root))

    command = serve.argv({"MAYFLY_LAYER": "probe"})

    assert command[0].endswith("/opt/mayfly-engine/env/bin/python")
    assert command[1:] == ["-m", "mayfly.probe_rank", CASE]
