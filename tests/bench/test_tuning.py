"""The page that says what each engine setting does: made from raw results, never typed."""

import json

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
        shipped = "2026-11-23-h100-rank"
        for name in (shipped, "2026-11-24-h100-more"):
            (tmp_path / name).mkdir()
        for name, text in (
            (shipped, (tuning.RAW / shipped / "results.jsonl").read_text()),
            ("2026-11-24-h100-more", json.dumps(line) + "\n"),
        ):
            (tmp_path / name / "results.jsonl").write_text(text)
        return tuning.page({gpu: tuning.read(gpu, tmp_path) for gpu in tuning.GPUS})

    return add


def row_of(page: str, *cells: str) -> str:
    (row,) = [line for line in page.splitlines() if line.startswith(f"| {' | '.join(cells)} |")]
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
    assert "122.5 to 150 | base, async, long-decode, next |" in page
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
    """Three profiles' plans are held to what the engine found."""
    line = {
        **{"profile": "qwen3-4b", "rank": "1 of 1", "gpu": "NVIDIA H100 80GB HBM3"},
        "predicted": {"weights_gib": 8.0, "kv_gib": 50.0, "kv_tokens": 400_000},
        "difference_percent": {"weights_gib": 1.0, "kv_gib": -2.0, "kv_tokens": -2.0},
        "measured": {**ENGINE, "decode batch 8": {"per_request_tok_s": 90.0}},
    }

    row = row_of(measured(line), "qwen3-4b", "1 of 1", "NVIDIA H100 80GB HBM3")
    assert "50 / 4.1 (-2.0 %)" in row
    assert "| not run | 90 | not run |" in row


def test_cells_that_nobody_measured_say_so():
    """A blank could be read as zero, or as left out."""
    assert "not run" in PAGE.read_text()
    assert "| |" not in PAGE.read_text()
