"""The inference test must see what a client would stumble over."""

import json
from dataclasses import replace

import pytest

from bench import test_inference as inference
from tests.bench.server import KEY, Behaviour, serving


def run(url: str, capsys, *more: str):
    code = inference.main(["--url", url, "--key", KEY, "--json", *more])
    out, err = capsys.readouterr()
    results = {c["name"]: c for c in json.loads(out)["checks"]} if out else {}
    return code, results, err


def test_inference_test_passes_when_the_endpoint_is_whole(capsys):
    """Every check runs; a green report with a check missing proves nothing."""
    with serving(Behaviour(gap_s=0)) as url:
        code, results, _ = run(url, capsys)

    assert code == 0
    assert set(results) == {
        "models",
        "chat",
        "usage",
        "streaming",
        "tool_call",
        "reasoning",
        "long_prompt",
        "too_long",
        "no_key",
        "wrong_key",
    }


@pytest.mark.parametrize(
    "path",
    ["/v1/chat/completions", "/invocations", "/tokenize", "/v1/completions", "/v1/embeddings"],
)
def test_inference_test_fails_when_a_path_is_open_without_key(path, capsys):
    """vLLM's own key leaves /invocations open: full inference for anybody on the machine."""
    with serving(replace(Behaviour(gap_s=0), open_paths=(path,))) as url:
        code, results, _ = run(url, capsys)

    assert code == 1
    assert not results["no_key"]["ok"]
    assert "is open" in results["wrong_key"]["detail"]
    assert results["chat"]["ok"]


def test_inference_test_passes_when_a_path_is_not_there(capsys):
    """No model has all of vLLM's APIs; what does not exist infers nothing."""
    with serving(Behaviour(gap_s=0, absent=("/v1/embeddings", "/v1/rerank"))) as url:
        code, results, _ = run(url, capsys)

    assert code == 0
    assert results["no_key"]["detail"] == f"401 on {len(inference.GUARDED) - 1} paths"


def test_inference_test_fails_when_thinking_is_in_the_answer(capsys):
    """Without the right parser every client shows the user what the model mumbles."""
    with serving(Behaviour(gap_s=0, thinking="content")) as url:
        code, results, _ = run(url, capsys)

    assert code == 1
    assert "thinking in the answer itself: '<think>" in results["reasoning"]["detail"]


def test_inference_test_wants_thinking_when_the_server_has_a_parser_for_it(capsys):
    """A parser of another model's name swallows it, and answers look shallow."""
    with serving(Behaviour(gap_s=0, thinking="reasoning")) as url:
        assert run(url, capsys, "--reasoning")[0] == 0
    with serving(Behaviour(gap_s=0)) as url:
        code, results, _ = run(url, capsys, "--reasoning")

    assert code == 1
    assert "no reasoning" in results["reasoning"]["detail"]


def test_inference_test_fails_when_a_long_prompt_is_cut(capsys):
    """A server that drops the middle answers quickly, and wrongly."""
    with serving(Behaviour(gap_s=0, cuts=True)) as url:
        code, results, _ = run(url, capsys)

    assert code == 1
    assert "4096 tokens read; 7373 were aimed at" in results["long_prompt"]["detail"]
    assert "400 was expected" in results["too_long"]["detail"]


def test_inference_test_fails_when_the_model_is_another(capsys):
    """A benchmark of the wrong model is worse than none."""
    with serving(Behaviour(gap_s=0)) as url:
        code, results, _ = run(url, capsys, "--model", "other")

    assert code == 1
    assert "'other' is not served; served: kimi" in results["models"]["detail"]


def test_inference_test_fails_when_the_stream_is_cut(capsys):
    """A proxy that cuts streams passes every other check."""
    with serving(Behaviour(gap_s=0, faults=["", "", "", "cut"])) as url:
        code, results, _ = run(url, capsys)

    assert code == 1
    assert "without [DONE]" in results["streaming"]["detail"]


def test_inference_test_fails_without_a_crash_when_an_answer_has_another_shape(capsys):
    """The remaining checks must still be told."""
    with serving(Behaviour(gap_s=0, shapeless=True)) as url:
        code, results, _ = run(url, capsys)

    assert code == 1
    assert "another shape" in results["chat"]["detail"]
    assert results["streaming"]["ok"]


def test_inference_test_says_what_to_do_when_nothing_answers(capsys):
    """The usual reason is a missing tunnel."""
    code, _, err = run("http://127.0.0.1:9/v1", capsys)

    assert code == 1
    assert "mayfly connect" in err


def test_inference_test_is_not_collected_when_pytest_reads_its_file():
    """The users' mission gives the name; its functions must not become tests of ours."""
    assert [n for n in vars(inference) if n.startswith("test")] == []
