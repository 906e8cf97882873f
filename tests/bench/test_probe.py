"""One rank measured by the real child process, on an engine and a GPU that are made up.

What the stand-ins say is in vLLM's own words (0.24.0): a pattern that misses loses a measurement.
"""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bench import probe
from mayfly.probe_case import read_log
from tests.conftest import ROOT
from tests.desk import schemas, schemas_launch

LOG = """
INFO [gpu_model_runner.py] Model loading took 71.23 GiB memory and 12.1 seconds
INFO [gpu_worker.py] Available KV cache memory: 4.12 GiB
INFO [kv_cache_utils.py] GPU KV cache size: 62,927 tokens
INFO [monitor.py] torch.compile took 8.71 s in total
INFO [gpu_model_runner.py] Graph capturing finished in 10 secs, took 0.51 GiB
INFO [core.py:337] init engine (profile, create kv cache, warmup model) took 27.03 s
INFO [cuda.py] Using FLASH_ATTN_MLA attention backend out of potential backends
INFO [compressed_tensors_moe.py] Using 'MARLIN' WNA16 MoE backend
"""
ENGINE = """
import json, pathlib, sys, time
class SamplingParams:
    def __init__(self, **asked): self.max_tokens = asked["max_tokens"]
class LLM:
    def __init__(self, model, **arguments):
        config = json.loads(pathlib.Path(model, "config.json").read_text())
        print({log!r}, file=sys.stderr)
        print("heads", config["num_attention_heads"], json.dumps(arguments), file=sys.stderr)
        {start}
    def generate(self, prompts, params, use_tqdm):
        time.sleep(0.0005 * params.max_tokens)
"""
TORCH = """
class cuda:
    @staticmethod
    def mem_get_info(): return 1, int(79.18 * 2**30)
"""


@pytest.fixture
def site(tmp_path):
    """A folder for PYTHONPATH with vllm and torch, and one for PATH with nvidia-smi."""

    def make(start: str = "pass", smi: str = "NVIDIA H100 80GB HBM3, 81559") -> dict[str, str]:
        library, tools = tmp_path / "site", tmp_path / "bin"
        for folder in (library / "vllm", library / "torch", library / "vllm-0.24.0.dist-info"):
            folder.mkdir(parents=True)
        (library / "vllm/__init__.py").write_text(ENGINE.format(log=LOG, start=start))
        (library / "torch/__init__.py").write_text(TORCH)
        (library / "vllm-0.24.0.dist-info/METADATA").write_text("Name: vllm\nVersion: 0.24.0\n")
        tools.mkdir()
        script = tools / "nvidia-smi"
        script.write_text(f"#!/bin/sh\necho '{smi}'\n" if smi else "#!/bin/sh\nexit 9\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        path = f"{tools}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PYTHONPATH": str(library), "PATH": path}

    return make


def mayfly(environment, *words, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mayfly.cli", *words]
    environment = {
        **environment,
        "PYTHONPATH": f"{environment.get('PYTHONPATH', '')}{os.pathsep}{ROOT}",
    }
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=cwd, timeout=120
    )


def test_log_gives_memory_times_and_kernels_when_the_engine_started():
    """These are the planner's measured points."""
    figures = read_log(LOG)

    assert (figures["weights_gib"], figures["kv_gib"], figures["kv_tokens"]) == (71.23, 4.12, 62927)
    assert (figures["compile_s"], figures["graphs_s"], figures["graphs_gib"]) == (8.71, 10, 0.51)
    assert figures["init_s"] == 27.03
    assert (figures["attention"], figures["moe"]) == ("FLASH_ATTN_MLA", "MARLIN")


def test_log_gives_none_for_every_figure_when_the_engine_died():
    """A missing figure must not look like zero."""
    assert set(read_log("torch.AcceleratorError: CUDA error: out of memory").values()) == {None}


def test_probe_sets_the_ranks_figures_beside_the_plans_when_it_ran(site, tmp_path):
    """The plan's promise and the engine's word on one page, before eight GPUs are rented."""
    done = mayfly(
        site(), "probe", "kimi-k2.5", "--batches", "1,8,512", "--json", "--out", "o", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    schemas.check(schemas_launch.PROBE, found)
    assert (found["rank"], found["gpu_gib"], found["engine"]) == ("1 of 8", 79.18, "0.24.0")
    assert "all-reduce" in found["leaves_out"]
    assert found["measured"]["kv_tokens"] == 62_927
    assert found["predicted"]["kv_gib"] == pytest.approx(3.20, abs=0.02)
    assert found["difference_percent"]["weights_gib"] == pytest.approx(0.2, abs=0.1)
    assert found["measured"]["decode batch 8"]["total_tok_s"] > 0
    assert found["measured"]["prefill 8192"]["tok_s"] > 0
    assert "decode batch 512" not in found["measured"]  # the plan takes 64 at a time


def test_probe_starts_the_engine_as_the_plan_would_when_it_measures_a_rank(site, tmp_path):
    """Other settings would measure another machine."""
    mayfly(site(), "probe", "kimi-k2.5", "--json", "--out", "o", cwd=tmp_path)
    log = (tmp_path / "o/kimi-k2.5-fast-tp8.log").read_text()
    heads, arguments = next(line for line in log.splitlines() if line.startswith("heads"))[
        6:
    ].split(" ", 1)

    told = json.loads(arguments)
    assert heads == "8"  # of 64
    assert (told["gpu_memory_utilization"], told["max_num_seqs"]) == (0.96, 64)
    assert told["max_num_batched_tokens"] == 2048
    assert told["load_format"] == "dummy"


def test_probe_shows_a_table_when_people_read_it(site, tmp_path):
    """What a rank leaves out stands above its figures."""
    done = mayfly(site(), "probe", "qwen3-4b", "--batches", "1", "--out", "o", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "Left out: nothing but real weights." in done.stdout
    assert "planned" in done.stdout
    assert "decode batch 1" in done.stdout


def test_probe_ends_with_1_and_keeps_the_log_when_the_engine_dies(site, tmp_path):
    """A failure is a result: its last words are the reason."""
    environment = site(start='raise SystemExit("CUDA out of memory")')
    done = mayfly(environment, "probe", "qwen3-4b", "--json", "--out", "o", cwd=tmp_path)

    assert done.returncode == 1
    assert json.loads(done.stdout)["measured"]["weights_gib"] == 71.23
    assert "CUDA out of memory" in done.stderr
    assert "CUDA out of memory" in (tmp_path / "o/qwen3-4b-fast-tp1.log").read_text()


def test_probe_is_ended_with_its_children_when_its_time_is_over(site, tmp_path):
    """The engine is a process of its own that would keep the GPU's memory."""
    marker = tmp_path / "child.pid"
    start = (
        "import subprocess; child = subprocess.Popen(['sleep', '300']); "
        f"pathlib.Path({str(marker)!r}).write_text(str(child.pid)); child.wait()"
    )
    done = mayfly(
        site(start=start),
        *("probe", "qwen3-4b", "--json", "--out", "o", "--limit-s", "3"),
        cwd=tmp_path,
    )

    assert done.returncode == 1
    assert json.loads(done.stdout)["exit"] == "time limit"
    state = Path(f"/proc/{marker.read_text()}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


@pytest.mark.parametrize(
    ("words", "smi", "says"),
    [
        (["qwen3-4b"], "", "No NVIDIA GPU answers here"),
        (["qwen3-4b", "--python", "/bin/false"], "H100, 81559", "/bin/false has no vLLM"),
        (["qwen3-4b", "--batches", "1,x"], "H100, 81559", "--batches: '1,x'"),
        (["qwen3-4b", "--machine", "dgx"], "H100, 81559", "--machine: 'dgx'. Valid: a3-highgpu"),
        (["qwen3-4b", "--mode", "both"], "H100, 81559", "--mode: 'both'. Valid: fast, long."),
        (["nix"], "H100, 81559", "profiles/nix.yaml"),
    ],
)
def test_probe_ends_with_2_when_it_cannot_be_meant(site, tmp_path, words, smi, says):
    """Nothing was started: the message says what is missing."""
    done = mayfly(site(smi=smi), "probe", *words, cwd=tmp_path)

    assert done.returncode == 2
    assert says in done.stderr
    assert not (tmp_path / ".mayfly").exists()


def test_probe_refuses_with_3_when_the_plan_does_not_fit(site, tmp_path):
    """There is no rank of a deployment that cannot be."""
    done = mayfly(site(), "probe", "kimi-k2.5", "--machine", "a2-highgpu-8g", cwd=tmp_path)

    assert done.returncode == 3
    assert "71.1 GiB of weights" in done.stderr


def bench(environment, *words) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "bench/probe.py", *words],
        env=environment,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )


def test_bench_writes_a_line_a_profile_when_several_are_asked_for(site, tmp_path):
    """It is what docs/results/ is made of."""
    done = bench(
        site(), "--profiles", "qwen3-235b,llama-70b-r1", "--batches", "1", "--out", str(tmp_path)
    )
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]

    assert done.returncode == 0, done.stderr
    assert [line["profile"] for line in lines] == ["qwen3-235b", "llama-70b-r1"]


def test_bench_runs_a_file_of_cases_with_fewer_layers_when_asked(site, tmp_path):
    """Fewer layers let a long context fit one GPU."""
    few = {"name": "few", "llm": {"max_num_seqs": 8}, "layers": 20}
    done = bench(site(), *cases_file(tmp_path, few))

    assert done.returncode == 0, done.stderr
    (line,) = (tmp_path / "results.jsonl").read_text().splitlines()
    assert json.loads(line)["case"]["layers"] == 20
    assert "heads 8" in (tmp_path / "few.log").read_text()


def test_bench_names_the_key_when_a_case_has_an_unknown_one(site, tmp_path):
    """A typo would quietly measure something else."""
    done = bench(site(), *cases_file(tmp_path, {"name": "x", "llm": {}, "decod": [1]}))

    assert done.returncode == 1
    assert "no such key: decod" in done.stderr


def cases_file(folder: Path, *cases: dict[str, object]) -> tuple[str, ...]:
    path = folder / "cases.json"
    path.write_text(json.dumps(cases))
    config = ROOT / "profiles/configs/kimi-k2.5.json"
    return "--config", str(config), "--tp", "8", "--cases", str(path), "--out", str(folder)


def test_bench_refuses_decode_at_long_context_when_the_prompt_is_not_cached(site, tmp_path):
    """It gave 536 tok/s once, where 90 are true."""
    llm = {"enable_prefix_caching": False}
    done = bench(site(), *cases_file(tmp_path, {"name": "x", "llm": llm, "decode_at": [8192]}))

    assert done.returncode == 1
    assert "decode_at needs enable_prefix_caching" in done.stderr
    assert not (tmp_path / "results.jsonl").exists()


def test_bench_runs_the_named_cases_only_when_asked(site, tmp_path):
    """A machine's time may not be enough for a whole file."""
    few = [{"name": name, "llm": {}, "decode": [1]} for name in ("first", "second")]
    done = bench(site(), *cases_file(tmp_path, *few), "--only", "second")
    (line,) = (tmp_path / "results.jsonl").read_text().splitlines()

    assert done.returncode == 0, done.stderr
    rates = json.loads(line)["decode batch 1"]
    assert rates["least"] <= rates["per_request_tok_s"] <= rates["most"]


@pytest.mark.parametrize("path", sorted((ROOT / "bench/cases").glob("h[12]00-*.json")))
def test_bench_can_run_every_shipped_case_when_it_is_read(path):
    """A typo would be found out on a rented GPU."""
    config = json.loads((ROOT / "profiles/configs/kimi-k2.5.json").read_text())

    for raw in json.loads(path.read_text()):
        assert probe.case_of(raw, config, 8).name == raw["name"]
