"""Profiles: the shipped ones, and what a wrong one is told."""

import copy

import pytest
import yaml

from mayfly import profile
from mayfly.machines import MACHINES
from mayfly.problems import ConfigError
from tests.conftest import ROOT


def plain(name: str = "kimi-k2.5") -> dict:
    return yaml.safe_load((ROOT / f"profiles/{name}.yaml").read_text())


def refused(raw) -> str:
    with pytest.raises(ConfigError) as caught:
        profile.parse("x", raw, "profiles/x.yaml")
    return str(caught.value)


@pytest.mark.parametrize("name", profile.names())
def test_shipped_profile_is_pinned_and_locked_when_it_is_loaded(name):
    """A branch moves and takes remote code with it; a lock that is not there fails the seed."""
    loaded = profile.load(name)

    assert profile.COMMIT.fullmatch(loaded.revision)
    if loaded.machines:
        assert (ROOT / "startup/locks" / loaded.engine.lock).is_file()
        assert loaded.engine.vllm in loaded.engine.lock


@pytest.mark.parametrize("name", profile.names())
def test_shipped_profile_serves_what_it_promises_when_its_flags_are_read(name):
    """The context said and the context served must be one number, on as many GPUs as there are."""
    for machine, modes in profile.load(name).machines.items():
        assert set(profile.MODES) == set(modes)
        for mode in modes.values():
            assert f"--max-model-len={mode.context_tokens}" in mode.flags
            assert f"--tensor-parallel-size={MACHINES[machine].gpus}" in mode.flags


@pytest.mark.parametrize("name", profile.names())
def test_shipped_profile_fits_the_machine_when_its_weights_lie_in_memory(name):
    """tmpfs takes half of the RAM by default; weights that do not fit fail at GPU prices."""
    loaded = profile.load(name)

    for machine in loaded.machines:
        assert loaded.size_gb < MACHINES[machine].ram_gb / 2


@pytest.mark.parametrize("name", profile.names())
def test_shipped_profile_weighs_what_the_hub_says_when_its_config_is_read(name):
    """The arithmetic and the hub's index are two witnesses: a wrong config shows here."""
    loaded = profile.load(name)

    if loaded.shape:
        counted = sum(part.size_bytes for part in loaded.shape.parts if not part.made_at_load)
        assert counted / 1e9 == pytest.approx(loaded.size_gb, rel=0.005)


@pytest.mark.parametrize("name", profile.names())
def test_shipped_profile_serves_long_no_shorter_than_fast_when_both_are_planned(name):
    """Who asks for the long mode must not get less."""
    for modes in profile.load(name).machines.values():
        assert modes["long"].context_tokens >= modes["fast"].context_tokens


@pytest.mark.parametrize("name", profile.names())
def test_shipped_profile_says_where_its_facts_are_from_when_it_is_read(name):
    """A commit or a size that nobody can trace is one that nobody can renew."""
    assert "\n# Sources: commit" in (profile.PROFILES / f"{name}.yaml").read_text()


def test_fast_mode_never_shares_the_context_out_when_flags_are_computed():
    """It is the mode that a session falls back to when the long one fails its check."""
    for name in profile.names():
        for modes in profile.load(name).machines.values():
            assert not [f for f in modes["fast"].flags if "context-parallel" in f]


def test_kimi_serves_its_whole_context_when_eight_h100_share_it_out():
    """The flags that a session is started with, as a person would have typed them."""
    modes = profile.load("kimi-k2.5").machines["a3-highgpu-8g"]

    assert modes["long"].flags == (
        "--tensor-parallel-size=8",
        "--decode-context-parallel-size=8",
        "--max-model-len=262144",
        "--gpu-memory-utilization=0.96",
        "--max-num-seqs=8",
        "--max-num-batched-tokens=2048",
        "--language-model-only",
        "--trust-remote-code",
        "--tool-call-parser=kimi_k2",
        "--enable-auto-tool-choice",
        "--reasoning-parser=kimi_k2",
    )


def test_checkpoint_with_fp8_cache_is_served_in_bf16_when_flags_are_computed():
    """A100 has no fp8 cache, and the engine refuses it under context parallelism."""
    for modes in profile.load("kimi-k2.5-int4").machines.values():
        for mode in modes.values():
            assert "--kv-cache-dtype=bfloat16" in mode.flags


def test_profile_names_every_problem_when_several_keys_are_wrong():
    """Who writes a profile mends it in one go."""
    raw = plain()
    raw["revision"] = "main"
    raw["size_gb"] = "big"
    raw["engine"]["vlm"] = "0.24.0"
    raw["machines"]["a3-highgpu-8g"] = {"flags": "--all"}
    del raw["licence"]

    text = refused(raw)

    for part in (
        "profiles/x.yaml: 5 problems",
        "revision: 'main'. It must be a commit",
        "size_gb: 'big'. It must be a number",
        "engine.vlm: '0.24.0'. No such key. Valid: driver_branch, load_format, lock, vllm.",
        "machines.a3-highgpu-8g.flags: '--all'. It must be a list",
        "licence: not set.",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("engine", "driver_branch"), 580, "in quotes"),
        (("engine", "load_format"), "fast", "Valid: safetensors, fastsafetensors, instanttensor."),
        (("model",), "Kimi", "organisation/name"),
        (("shards",), 0, "whole number above 0"),
        (("shards",), True, "whole number above 0"),
        (("wishes", "fast", "concurrency"), 1.5, "whole number above 0"),
        (("wishes", "turbo"), {}, "No such key. Valid: fast, long."),
        (("seeding",), "fast", "a table of keys"),
        (("machines",), None, "a table of keys"),
        (("machines", "dgx"), {}, "Valid: a3-highgpu-8g, a3-highgpu-4g"),
        (("machines", "a3-highgpu-8g", "price"), 3, "No such key. Valid: "),
        (("machines", "a3-highgpu-8g", "util"), 0.99, "At most 0.96"),
        (("machines", "a3-highgpu-1g"), {}, "It does not fit: 554.3 GiB of weights"),
        (("config",), "none.json", "a file in profiles/configs/. Valid: kimi-k2.5"),
        (("serve",), ["--max-model-len=8192"], "The planner computes it"),
        (("serve",), ["--turbo"], "vllm serve 0.24.0 has no such flag"),
        (("serve",), ["--trust-remote-code=yes"], "takes no value"),
        (("serve",), ["--tool-call-parser=mine"], "Valid: --tool-call-parser=kimi_k2"),
        (("serve",), ["--attention-backend"], "needs a value"),
        (("draft",), {"model": "a/b"}, "draft.method"),
    ],
)
def test_profile_is_refused_with_the_key_when_its_value_is_wrong(path, value, words):
    """The key's whole path: a profile has four places called `modes`."""
    raw = copy.deepcopy(plain())
    place = raw
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value

    text = refused(raw)

    assert words in text
    assert str(path[-1]) in text


@pytest.mark.parametrize("raw", [None, [], "kimi", 3])
def test_profile_is_refused_when_it_is_no_table(raw):
    """An empty file is the likeliest of these."""
    assert "a table of keys" in refused(raw)


@pytest.mark.parametrize("text", ["{", "[]", '{"hidden_size": 1}'])
def test_profile_is_refused_when_its_config_is_no_models(tmp_path, text):
    """A half-written file must not end in a traceback."""
    (tmp_path / "x.json").write_text(text)

    with pytest.raises(ConfigError, match=r"config: 'x.json'. It must be a model's config.json"):
        profile.parse("x", {**plain(), "config": "x.json"}, "profiles/x.yaml", tmp_path)


def test_profile_lists_the_others_when_there_is_none_of_that_name():
    """A typo in a name should cost one look."""
    with pytest.raises(ConfigError, match=r"Valid: kimi-k2\.5, kimi-k2\.5-int4, kimi-k2\.6"):
        profile.load("kimi")


def test_profile_is_refused_in_one_line_when_it_is_no_yaml(tmp_path):
    """A parser's traceback is no message."""
    (tmp_path / "bad.yaml").write_text("a: [1\nb: }")

    with pytest.raises(ConfigError, match="It must be valid YAML"):
        profile.load("bad", tmp_path)


def test_shards_may_be_unknown_when_the_profile_says_null():
    """Nobody has counted the NVFP4 checkpoint's; a guess would be believed."""
    assert profile.load("kimi-k2.5-int4").shards is None
