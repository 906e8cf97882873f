"""`mayfly profile new` and `check`, against a hub that speaks the real client's protocol."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
import yaml

from local import hub as hubs
from mayfly import hub, profile, profile_writer
from mayfly.commands import profile as command
from mayfly.errors import FailedError, WrongInputError
from tests.conftest import ROOT

COMMIT = "cdbee75f17c01a7cc42f958dc650907174af0554"
MODEL = "Qwen/Qwen3-4B-Instruct-2507"
CONFIG = json.loads((ROOT / "profiles/configs/qwen3-4b.json").read_text())


def found(**more) -> hub.HubModel:
    facts = {
        "model": MODEL,
        "revision": COMMIT,
        "licence": "apache-2.0",
        "size_bytes": 8_044_936_192,
        "shards": 3,
        "config": CONFIG,
    }
    return hub.HubModel(**{**facts, **more})


@contextmanager
def serving(tmp_path, *, gated=False, config=CONFIG):
    """A hub with one model of two shards; yields the environment for a child process."""
    directory = tmp_path / "repo"
    directory.mkdir()
    if config is not None:
        (directory / "config.json").write_text(json.dumps(config))
    for shard in (1, 2):
        (directory / f"model-{shard}.safetensors").write_bytes(b"0" * 1000)
    server = hubs.serve(hubs.Hub({MODEL: hubs.Repo(directory, COMMIT, gated=gated)}, frozenset()))
    try:
        yield {
            **os.environ,
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HOME": str(tmp_path / "home"),
        }
    finally:
        server.shutdown()
        server.server_close()


def read(environment, model=MODEL, revision="main") -> subprocess.CompletedProcess[str]:
    """In a process of its own: the hub's client takes its endpoint when it is imported."""
    script = (
        "import sys; from mayfly import hub; from mayfly.errors import MayflyError\n"
        "try: print(hub.read(*sys.argv[1:]))\n"
        "except MayflyError as error: print(error); sys.exit(error.exit_code)"
    )
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script, model, revision],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_hub_tells_commit_sizes_and_config_when_it_is_asked(tmp_path):
    """The commit, not the branch: a branch moves."""
    with serving(tmp_path) as environment:
        done = read(environment)

    assert done.returncode == 0, done.stderr + done.stdout
    for part in (f"revision='{COMMIT}'", "size_bytes=2000", "shards=2", "'head_dim': 128"):
        assert part in done.stdout


@pytest.mark.parametrize(
    ("hub_has", "asked", "says", "code"),
    [
        ({"gated": True}, {}, "is gated: its licence must be accepted", 2),
        ({}, {"model": "no/such"}, "The hub has no no/such at main", 2),
        ({}, {"revision": "v9"}, "at v9", 2),
        ({"config": None}, {}, "no config.json", 2),
        ({}, {"model": "such"}, "'such' is no hub id", 2),
    ],
)
def test_hub_says_what_is_wrong_when_there_is_no_such_model(tmp_path, hub_has, asked, says, code):
    """One line, not the client's traceback."""
    with serving(tmp_path, **hub_has) as environment:
        done = read(environment, **asked)

    assert done.returncode == code
    assert says in done.stdout
    assert "Nothing was written." in done.stdout
    assert "Traceback" not in done.stderr


def test_hub_that_is_down_is_a_failure_when_it_is_asked(tmp_path):
    """Nothing is wrong with the input."""
    with serving(tmp_path) as environment:
        pass
    done = read({**environment, "HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1"})

    assert done.returncode == 1
    assert "The hub did not answer" in done.stdout


def test_new_profile_can_be_loaded_and_served_when_it_is_written(tmp_path):
    """What is written must stand the same check as what ships."""
    path = profile_writer.write(found(), "", tmp_path)
    loaded = profile.load(path.stem, tmp_path)

    assert path.name == "qwen3-4b-instruct-2507.yaml"
    assert (loaded.revision, loaded.size_gb, loaded.shards) == (COMMIT, 8.045, 3)
    assert loaded.serve == ("--tool-call-parser=hermes", "--enable-auto-tool-choice")
    assert loaded.default_machine == "g2-standard-8"
    assert loaded.machines["g2-standard-8"]["fast"].context_tokens == 32_768


def test_new_profile_of_a_big_model_names_the_machines_that_hold_it(tmp_path):
    """Remote code and the vision tower are seen in the config."""
    config = json.loads((ROOT / "profiles/configs/kimi-k2.5.json").read_text())
    config |= {"vision_config": {}, "auto_map": {"AutoConfig": "x.Y"}}
    big = found(model="moonshotai/Kimi", config=config, size_bytes=595_150_000_000, shards=64)
    loaded = profile.load(profile_writer.write(big, "big", tmp_path).stem, tmp_path)

    assert tuple(loaded.machines) == ("a2-ultragpu-8g", "a3-highgpu-8g", "a3-megagpu-8g")
    assert loaded.serve[:2] == ("--language-model-only", "--trust-remote-code")


def test_new_profile_is_offered_nowhere_when_no_machine_holds_it(tmp_path):
    """It can still be planned, which says what would."""
    config = {**CONFIG, "num_hidden_layers": 36_000}
    huge = found(config=config, size_bytes=7_000_000_000_000)
    loaded = profile.load(profile_writer.write(huge, "huge", tmp_path).stem, tmp_path)

    assert loaded.machines == {}


@pytest.mark.parametrize("there", ["x.yaml", "configs/x.json"])
def test_new_profile_overwrites_nothing_when_a_file_is_there(tmp_path, there):
    """Somebody's work may be in it."""
    (tmp_path / "configs").mkdir()
    (tmp_path / there).write_text("mine")

    with pytest.raises(WrongInputError, match="is there already"):
        profile_writer.write(found(), "x", tmp_path)
    assert (tmp_path / there).read_text() == "mine"
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 1


@pytest.mark.parametrize(
    "config", [{}, {**CONFIG, "linear_attn_config": {"kda_layers": [1]}}, {"vocab_size": "big"}]
)
def test_new_profile_is_not_written_when_the_planner_cannot_read_the_config(tmp_path, config):
    """A profile without a plan would fail on the machine instead."""
    with pytest.raises(WrongInputError, match="The planner cannot read"):
        profile_writer.write(found(config=config), "x", tmp_path)
    assert not list(tmp_path.iterdir())


def test_check_finds_all_shipped_profiles_sound(capsys):
    """The gate that a change of profiles passes."""
    command.check(as_json=False)

    assert f"{len(profile.names())} profiles are sound" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"size_gb": 9.0}, "size_gb: 9.0. Its config makes 8.04 GB."),
        ({"engine": {"lock": "none.lock"}}, "engine.lock: 'none.lock'"),
        ({"machines": {"g2-standard-8": {}}, "size_gb": 20.0}, "Half of its RAM"),
        ({"revision": "main"}, "It must be a commit"),
        ({"serve": ["--no-such"]}, "no such flag"),
    ],
)
def test_check_turns_red_when_a_profile_is_wrong(tmp_path, change, says):
    """The twin: every kind of fault is fed to it once."""
    raw = yaml.safe_load((ROOT / "profiles/qwen3-4b.yaml").read_text())
    for key, value in change.items():
        raw[key] = {**raw[key], **value} if key == "engine" else value
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/qwen3-4b.json").write_text(json.dumps(CONFIG))
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(raw))

    with pytest.raises(FailedError) as caught:
        command.check(tmp_path, as_json=False)
    assert says in str(caught.value)
    assert "profiles/bad.yaml" in str(caught.value)
