"""The page that says what each engine setting does: made from raw results, never typed."""

import json
import re

import pytest

from bench import tuning
from tests.conftest import ROOT

PAGE = ROOT / "docs/results/tuning.md"
SERVED = {
    "max_num_batched_tokens": 2048,
    "max_num_seqs": 64,
    "gpu_memory_utilization": 0.97,
    "enable_prefix_caching": True,
}
ENGINE = {
    **{"weights_gib": 71.23, "kv_gib": 4.1, "kv_tokens": 62_000.0, "graphs_gib": 0.5},
    **{"compile_s": 8.0, "graphs_s": 9.0, "ready_s": 50.0, "attention": "FLASHMLA"},
}


@pytest.fixture
def measured(tmp_path):
    """The shipped results of one H100 and a line more."""

    def add(line):
        for name in ("2026-11-23-h100-rank", "2026-11-24-h100-probe"):
            (tmp_path / name).mkdir()
            text = (tuning.RAW / name / "results.jsonl").read_text()
            (tmp_path / name / "results.jsonl").write_text(text)
        (tmp_path / "2026-11-25-h100-more").mkdir()
        (tmp_path / "2026-11-25-h100-more/results.jsonl").write_text(json.dumps(line) + "\n")
        return tuning.page({gpu: tuning.read(gpu, tmp_path) for gpu in tuning.GPUS})

    return add


def row_of(page: str, *cells: str) -> str:
    start = f"| {' | '.join(cells)} |"
    (row,) = [line for line in page.splitlines() if line.startswith(start)]
    return row


def test_page_of_tuning_is_what_the_command_prints(capsys):
    """A figure that somebody typed is a figure that nobody measured."""
    tuning.main()

    assert capsys.readouterr().out == PAGE.read_text()


def test_page_of_tuning_changes_when_a_run_is_added(measured):
    """The gate's twin: the page follows the raw results."""
    line = {
        "case": {"name": "next", "llm": SERVED},
        **ENGINE,
        "decode batch 1": {
            **{"per_request_tok_s": 150.0, "total_tok_s": 150.0, "least": 149.0, "most": 151.5}
        },
    }
    page = measured(line)

    assert page != PAGE.read_text().rstrip("\n")
    assert "122.5 to 150 | base, async, long-decode, next, probe of kimi-k2.5 |" in page
    assert "| 150 (149 to 151.5) | not run |" in page


def test_page_says_noise_when_long_context_was_measured_without_the_prompts_cache(measured):
    """Two long prefills drown 128 tokens; the figure would pass for a speed."""
    line = {
        "case": {"name": "next", "llm": {**SERVED, "enable_prefix_caching": False}},
        **ENGINE,
        "decode at 8192": {"per_request_tok_s": 536.0, "total_tok_s": 536.0},
    }

    assert "| noise |" in row_of(measured(line), "next", "no prefix caching", "noise")


def test_page_sets_a_probes_figures_beside_the_plans_when_one_ran(measured):
    """Each profile's plan as it is now is held to what the engine found."""
    line = {
        **{"profile": "qwen3-4b", "machine": "a3-highgpu-1g", "mode": "fast", "rank": "1 of 1"},
        **{"planned_gpu_gib": 79.18, "predicted": {"kv_gib": 50.0}},
        "measured": {**ENGINE, "decode batch 8": {"per_request_tok_s": 90.0}},
    }

    row = row_of(measured(line), "qwen3-4b", "1 of 1")
    assert re.search(r"\| 6[0-9.]+ / 4\.1 \(-9[0-9.]+ %\) \|", row), row
    assert "| 50 GiB | not run | 90 | not run | not run | 50 |" in row


def test_cells_that_nobody_measured_say_so():
    """A blank could be read as zero, or as left out."""
    assert "not run" in PAGE.read_text()
    assert "| |" not in PAGE.read_text()
