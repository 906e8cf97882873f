"""The promise of four minutes stands on this model: its sums, its sources, what is committed."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from bench import coldstart, coldstart_inputs, coldstart_model, coldstart_page, coldstart_picture
from bench.coldstart_inputs import Book, Figure, InputError
from bench.coldstart_model import IMPROVEMENTS, ModelError, Node, Start
from startup.run import SESSION, Stage
from tests.conftest import ROOT

RESULTS = ROOT / "docs/results"
NODE = Node(
    profile="some",
    machine="a3-highgpu-8g",
    gpus=8,
    gb=600.0,
    pieces=64,
    experts=True,
    load_format="instanttensor",
)
SECONDS = {
    **{"boot": 50, "stage_ram": 1, "stage_driver": 3, "stage_gib": 1, "stage_config": 2},
    **{"stage_engine": 5, "stage_caches": 2, "caches_unpack": 1, "gpu_init_per_gpu": 2},
    **{"imports_afresh": 60, "imports_afresh_cold": 90, "imports_rank": 20},
    **{
        "imports_forked": 40,
        "imports_forked_cold": 70,
        "ranks": 7,
        "repack": 4,
        "warm_up_cached": 30,
        "warm_up_cold": 130,
    },
    **{"driver_upgrade": 120, "listen": 2, "engine_cpu": 80, "engine_part": 5, "poll": 2},
}
RATES = {
    **{"bucket_parallel": 8, "bucket_gsutil": 1.2, "nic_a3-highgpu-8g": 25, "disk_write": 3},
    **{"disk_load": 2, "load_instanttensor": 40, "load_safetensors": 10, "decode": 100},
    **{"load_instanttensor_dense": 50, "load_safetensors_dense": 12},
}
OTHERS = {"engine_gb": 5, "pull_cpu": 4, "vcpus_a3-highgpu-8g": 208, "answer_tokens": 200}


def figures(**changed: float) -> dict[str, Figure]:
    units = [(SECONDS, "s"), (RATES, "GB/s"), (OTHERS, "")]
    known = {name: (value, unit) for values, unit in units for name, value in values.items()}
    known |= {name: (value, known[name][1]) for name, value in changed.items()}
    return {name: Figure(name, value, unit, "a test") for name, (value, unit) in known.items()}


def start(*without: str, **changed: float) -> Start:
    return Start(NODE, Book(figures(**changed)), without)


def test_critical_path_adds_up_to_the_whole_when_read_backwards():
    """A path that leaves out seconds would blame the wrong stage."""
    spans = start().spans()

    path = coldstart_model.critical_path(spans)

    assert path[0][0] == "boot"
    assert sum(seconds for _, seconds in path) == pytest.approx(max(s.end for s in spans))
    assert all(seconds >= 0 for _, seconds in path)


def test_model_has_every_stage_of_the_product_when_it_runs_before_ready():
    """The picture shows the node as it is."""
    drawn = {span.name for span in start().spans()}

    assert {s.name for s in SESSION if not s.late} <= drawn


def test_model_refuses_a_stage_that_it_does_not_know():
    """A new stage without seconds would be free of charge."""
    stages = (*SESSION, Stage("polish", "99.sh", "loading", 60, after=("serve",)))

    with pytest.raises(ModelError, match="'polish' of unknown length"):
        Start(NODE, Book(figures()), stages=stages).spans()


def test_model_names_the_number_that_nobody_has():
    """A default here would be an invented measurement."""
    known = figures()
    del known["imports_forked"]

    with pytest.raises(InputError, match="'imports_forked'"):
        Start(NODE, Book(known)).spans()


@pytest.mark.parametrize("name", IMPROVEMENTS)
def test_start_is_slower_or_the_same_when_an_improvement_is_missing(name):
    """A negative worth would be a mistake in the graph."""
    assert coldstart_model.minutes(start(name).spans()) >= coldstart_model.minutes(start().spans())


def test_load_hides_behind_the_pull_when_the_pull_is_slow():
    """That is what overlap is for: after the last shard only the last group is left."""
    slow = {s.name: s for s in start(bucket_parallel=2).spans()}

    tail = slow["load"].end - slow["weights"].end
    assert slow["load"].because == "weights"
    assert tail == pytest.approx(600 / 40 / coldstart_model.groups(64))


def test_load_takes_its_whole_time_when_the_shards_are_there_first():
    """Then the imports are what it waited for."""
    quick = {s.name: s for s in start(bucket_parallel=25, imports_forked=200).spans()}

    assert quick["load"].because == "imports"
    assert quick["load"].end - quick["imports"].end == pytest.approx(600 / 40)


def test_server_starts_after_the_last_shard_when_nothing_overlaps():
    """The way it was."""
    spans = {s.name: s for s in start("overlap").spans()}

    assert spans["imports"].start >= spans["weights"].end


def test_pull_is_bound_by_the_card_and_by_the_cores_when_they_are_small():
    """A rate that the machine cannot take is no rate."""
    card = {s.name: s for s in start(**{"nic_a3-highgpu-8g": 1}).spans()}["weights"]
    cores = {s.name: s for s in start(pull_cpu=2080).spans()}["weights"]

    assert card.end - card.start == pytest.approx(5 + 605)
    assert cores.end - cores.start == pytest.approx(5 + 605 / (0.1 * 1.073741824))


def test_processes_share_their_imports_when_they_are_forked():
    """One line of the unit's environment decides over most of a minute."""
    alone = Start(replace(NODE, gpus=1), Book(figures()), ["one import"])
    starts = (start("one import"), start(), start("kernel caches"), alone)
    took = [{s.name: s.end - s.start for s in one.spans()}["imports"] for one in starts]

    assert took == pytest.approx([60 + 20 + 7, 40 + 7, 70 + 7, 60])


def test_unit_forks_when_the_model_says_so():
    """A figure that rests on a line which is gone would be a lie."""
    own = (ROOT / "startup/mayfly-vllm.env").read_text()

    assert "VLLM_WORKER_MULTIPROC_METHOD=fork" in own.splitlines()


def test_profiles_take_the_quickest_loader_when_they_are_offered():
    """The table decides, not a taste."""
    known = coldstart_inputs.read()
    quickest = max(coldstart_inputs.LOADED, key=lambda name: known[f"eight_{name}"].value)

    assert {node.load_format for node in coldstart_model.nodes()} == {quickest}


def test_load_takes_the_dense_rate_when_there_are_no_experts():
    """Experts come in a hundred thousand small tensors, whose number binds the loader."""
    dense = Start(replace(NODE, experts=False), Book(figures(imports_forked=200))).spans()
    load = {s.name: s for s in dense}["load"]

    assert load.end - load.start == pytest.approx(600 / 50)


def test_missed_goal_names_the_part_and_what_holds_when_it_is_too_slow():
    """A figure that does not hold must say so itself."""
    said = coldstart_model.forbidden_by(start(imports_forked=400).spans())

    assert said.startswith("imports: 4")
    assert "is the smallest figure that holds" in said
    assert coldstart_model.forbidden_by(start(bucket_parallel=20, imports_forked=20).spans()) == ""


def test_ends_of_a_range_go_the_right_way_when_it_is_a_rate_or_a_time():
    """More GB/s is better, more seconds are not."""
    rate = Figure("r", 2, "GB/s", "x", low=1, high=3)
    time = replace(rate, unit="s")

    assert (rate.pick("best"), rate.pick("worst"), rate.pick("value")) == (3, 1, 2)
    assert (time.pick("best"), time.pick("worst")) == (1, 3)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command makes of the committed inputs."""
    out = tmp_path_factory.mktemp("coldstart") / "cold-start.json"
    said = coldstart.result(coldstart_inputs.read())
    out.write_text(json.dumps(said, indent=1) + "\n")
    coldstart_picture.draw(said, out.with_suffix(".svg"))
    out.with_suffix(".md").write_text(coldstart_page.page(said, "cold-start.svg"))
    return out


@pytest.mark.parametrize("suffix", [".json", ".md"])
def test_committed_result_is_what_the_command_makes(made, suffix):
    """A page that was edited, or not made again after a new measurement, claims what nobody ran."""
    committed = (RESULTS / "cold-start").with_suffix(suffix).read_text()

    assert committed == made.with_suffix(suffix).read_text(), (
        "run: python bench/coldstart.py --out docs/results/cold-start.json"
    )


def test_result_has_a_row_for_every_offer_with_every_source(made):
    """Each number can be followed to where it was measured or published."""
    rows = json.loads(made.read_text())["rows"]

    assert len(rows) == len(coldstart_model.nodes())
    for row in rows:
        assert len(row["inputs"]) >= 8
        assert all(i["source"] and i["unit"] for i in row["inputs"])
        assert (row["forbidden_by"] == "") == (row["minutes_to_ready"] <= 4)
        assert row["minutes_best"] <= row["minutes_to_ready"] <= row["minutes_worst"]


def test_every_published_figure_is_used_when_all_starts_are_made():
    """One that nothing reads would grow old unseen."""
    book = Book(coldstart_inputs.read())
    for node in coldstart_model.nodes():
        for without in ((), IMPROVEMENTS, ["fast loader"]):
            Start(node, book, without).spans()
    shown = {f"eight_{name}" for name in coldstart_inputs.LOADED}
    text = (RESULTS / coldstart_inputs.FIGURES).read_text()
    named = {line.partition(":")[0] for line in text.splitlines() if line[:1].isalpha()}

    assert {name for name in named - set(book.used) - shown if not name.startswith("old_")} == set()


def test_measured_inputs_name_files_that_are_there():
    """A source that is gone is none."""
    for figure in coldstart_inputs.read().values():
        if figure.source.startswith("raw/"):
            name = figure.source.partition(",")[0].partition(":")[0]
            assert (RESULTS / name).exists(), figure


def test_picture_shows_both_ways_and_needs_nothing_else(made):
    """It is shown on pages that load nothing from elsewhere."""
    text = made.with_suffix(".svg").read_text()
    words = {element.text for element in ET.fromstring(text).iter() if element.text}

    assert {"weights", "imports", "warm-up", "copy", "minutes since create"} <= words
    assert 'href="http' not in text
    assert made.with_suffix(".svg").read_text() == (RESULTS / "cold-start.svg").read_text()
