"""The stand-in vLLM: strict with flags and files, truthful in its counters."""

import http.client
import json
import shutil
import signal
import subprocess
import threading
import time

import pytest

from local import checkpoint
from tests.machine import vllm_server
from tests.machine.vllm_server import FLAGS, HOST, KEY, KIMI, serving

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoint.make(tmp_path_factory.mktemp("model"), 16)


@pytest.fixture(scope="module")
def server(model, tmp_path_factory):
    with serving(model, tmp_path_factory.mktemp("vllm"), [*KIMI, "--api-key", KEY]) as running:
        yield running


def fails(model, tmp_path, flags=(), machine=None, **more):
    """(status, what it said) of a start that must not succeed."""
    words = vllm_server.command(model, [*FLAGS, "--port", "1", *flags])
    environment = vllm_server.environment(tmp_path, **more)
    if machine:
        environment["VLLM_MACHINE"] = json.dumps({**HOST, **machine})
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("flags", "status", "text"),
    [
        (["--no-such-flag", "1"], 2, "unrecognized arguments: --no-such-flag 1"),
        (["--max-model-le", "9"], 2, "unrecognized arguments: --max-model-le"),
        (["--kv-cache-dtype", "int3"], 2, "invalid choice: 'int3'"),
        (["--max-num-seqs", "many"], 2, "invalid int value: 'many'"),
        (["--enable-auto-tool-choice"], 1, "requires --tool-call-parser"),
        (["--no-trust-remote-code"], 1, "trust_remote_code=True"),
        (["-tp", "16"], 1, "World size (16) is larger than the number of available GPUs (8)"),
        (["-dcp", "3"], 1, "must be divisible by dcp_size=3"),
        (["-dcp", "8", "--kv-cache-dtype", "fp8"], 1, "DCP not support fp8"),
        (["--max-model-len", "262144"], 1, "estimated maximum model length is"),
        (["--gpu-memory-utilization", "0.80"], 1, "No available memory for the cache blocks"),
        (["--middleware", "nowhere.Guard"], 1, "No module named 'nowhere'"),
    ],
)
def test_vllm_refuses_a_command_line_that_the_real_one_refuses(
    model, tmp_path, flags, status, text
):
    """A profile's wrong flag must fail here, not after ten minutes of GPU time."""
    found = fails(model, tmp_path, flags)

    assert found[0] == status
    assert text in found[1]


@pytest.mark.parametrize(
    ("machine", "text"),
    [
        ({"driver": "570.195.03"}, "NVIDIA driver on your system is too old"),
        ({"driver": ""}, "Failed to infer device type"),
        ({"fabric": False}, "error 802"),
        ({"gpu_count": 4}, "World size (8) is larger"),
    ],
)
def test_vllm_dies_when_the_machine_is_not_ready_for_it(model, tmp_path, machine, text):
    """The stages before it are only tested if their omission shows."""
    status, said = fails(model, tmp_path, machine=machine)

    assert status == 1
    assert text in said


def test_vllm_dies_when_nccl_is_still_told_to_use_gib(model, tmp_path):
    """What the GIB stage exists for."""
    status, said = fails(model, tmp_path, NCCL_NET="gIB")

    assert status == 1
    assert "network gIB not found" in said


@pytest.fixture
def broken(model, tmp_path):
    """A copy of the model to spoil."""
    return shutil.copytree(model, tmp_path / "broken")


def truncate(folder):
    shard = folder / checkpoint.shard_name(9)
    shard.write_bytes(shard.read_bytes()[:-100])


def remove_shard(folder):
    (folder / checkpoint.shard_name(9)).unlink()


def remove_tokenizer(folder):
    (folder / "tiktoken.model").unlink()


def remove_config(folder):
    (folder / "config.json").unlink()


def spoil_header(folder):
    shard = folder / checkpoint.shard_name(9)
    shard.write_bytes(b"\xff" * 8 + shard.read_bytes()[8:])


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (truncate, "incomplete metadata, file not fully covered"),
        (remove_shard, "weights were not initialized from checkpoint"),
        (remove_tokenizer, "Can't load tokenizer"),
        (remove_config, "Invalid repository ID or local directory"),
        (spoil_header, "header too large"),
    ],
)
def test_vllm_dies_when_the_model_is_not_whole(broken, tmp_path, spoil, text):
    """A pull that lost a file must not end in an endpoint."""
    spoil(broken)

    status, said = fails(broken, tmp_path)

    assert status == 1
    assert text in said


def test_vllm_answers_the_same_to_the_same_question(server):
    """Tests compare answers; usage has to add up."""
    first, second = server.chat(max_tokens=20)[1], server.chat(max_tokens=20)[1]

    assert first["choices"] == second["choices"]
    usage = first["usage"]
    assert usage["completion_tokens"] == 20
    assert usage["total_tokens"] == usage["prompt_tokens"] + 20
    assert first["choices"][0]["finish_reason"] == "length"


def test_stream_says_the_same_as_the_whole_answer(server):
    """Both ways are used; the benchmark counts on the usage of the last event."""
    whole = server.chat(max_tokens=24)[1]
    body = {
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 24,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    _, headers, text = server.ask("/v1/chat/completions", body)

    events = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    parsed = [json.loads(event) for event in events[:-1]]
    deltas = [event["choices"][0]["delta"] for event in parsed if event["choices"]]
    message = whole["choices"][0]["message"]
    assert events[-1] == "[DONE]"
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "".join(d.get("content") or "" for d in deltas) == message["content"]
    assert "".join(d.get("reasoning") or "" for d in deltas) == message["reasoning"]
    assert parsed[-1]["usage"]["completion_tokens"] == 24


def test_tool_is_called_with_arguments_when_tools_are_offered(server):
    """Agents are a main use of the endpoint."""
    messages = [{"role": "user", "content": "What is the weather in Paris now?"}]

    _, answer = server.chat(messages=messages, tools=[TOOL])

    choice = answer["choices"][0]
    call = choice["message"]["tool_calls"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert (call["id"], call["function"]["name"]) == ("functions.get_weather:0", "get_weather")
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}


def test_counters_tell_exactly_what_was_generated(server):
    """The watchdog and the reaper decide by them."""
    names = ("vllm:generation_tokens_total", "vllm:prompt_tokens_total")
    before = [server.metric(name) for name in (*names, "vllm:request_success_total")]

    usage = server.chat(max_tokens=17)[1]["usage"]

    after = [server.metric(name) for name in (*names, "vllm:request_success_total")]
    grown = [now - then for now, then in zip(after, before, strict=True)]
    assert grown == [17, usage["prompt_tokens"], 1]


def test_requests_beyond_the_seats_wait_and_are_shown_as_waiting(server):
    """Ten requests on eight seats, as in the recording."""
    body = {"max_tokens": 800, "ignore_eos": True}
    threads = [threading.Thread(target=server.chat, kwargs=body) for _ in range(10)]
    for thread in threads:
        thread.start()
    seen = set()
    for _ in range(200):
        seen.add(
            (
                server.metric("vllm:num_requests_running"),
                server.metric("vllm:num_requests_waiting"),
            )
        )
        if (8.0, 2.0) in seen:
            break
    for thread in threads:
        thread.join(60)

    assert (8.0, 2.0) in seen
    assert server.metric("vllm:num_requests_running") == 0


def test_request_is_aborted_when_its_client_goes_away(server):
    """A closed tab must not keep a session alive."""
    before = server.metric("vllm:request_success_total")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    messages = [{"role": "user", "content": "go"}]
    body = {"messages": messages, "max_tokens": 20000, "ignore_eos": True, "stream": True}
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    answer.read(300)
    assert server.metric("vllm:num_requests_running") == 1

    answer.close()
    connection.close()

    deadline = time.monotonic() + 60
    while server.metric("vllm:num_requests_running") and time.monotonic() < deadline:
        threading.Event().wait(0.05)
    assert server.metric("vllm:num_requests_running") == 0
    assert server.metric("vllm:request_success_total") == before + 1


def test_tokens_come_back_as_the_text_they_were_made_from(server):
    """Whoever counts tokens must be able to trust the count."""
    text = "The quick brown fox, über 123!\n\tthe model answers"

    tokens = json.loads(server.ask("/tokenize", {"prompt": text})[2])
    back = json.loads(server.ask("/detokenize", {"tokens": tokens["tokens"]})[2])

    assert back == {"prompt": text}
    assert tokens["count"] == len(tokens["tokens"])


def test_api_key_leaves_the_paths_open_that_it_leaves_open(server):
    """Why the product brings a middleware of its own."""
    body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}

    assert server.ask("/v1/chat/completions", body, key=None)[0] == 401
    assert server.ask("/v1/models", key="wrong")[0] == 401
    assert server.ask("/invocations", body, key=None)[0] == 200
    assert server.ask("/tokenize", {"prompt": "x"}, key=None)[0] == 200


GUARD = """
class Guard:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["path"] == "/health":
            return await self.app(scope, receive, send)
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": b"guarded"})
"""


def test_middleware_of_the_command_line_stands_before_every_route(model, tmp_path):
    """The product's key guard is one."""
    (tmp_path / "own_guard.py").write_text(GUARD)
    path = f"{vllm_server.WHEELS}:{tmp_path}"

    with serving(model, tmp_path, ["--middleware", "own_guard.Guard"], PYTHONPATH=path) as running:
        assert running.ask("/invocations", {})[0] == 418
        assert running.ask("/health")[0] == 200


def test_no_port_answers_before_the_model_is_loaded(model, tmp_path):
    """Readiness must wait for the load, as on a VM."""
    slow = {**HOST, "settings": {**HOST["settings"], "vllm_load_s": "2"}}
    begun = time.monotonic()

    with serving(model, tmp_path, [], VLLM_MACHINE=json.dumps(slow)):
        assert time.monotonic() - begun > 2


def test_term_with_an_open_stream_hangs_until_killed(model, tmp_path):
    """Measured with the real one; it is why the unit has a TimeoutStopSec."""
    with serving(model, tmp_path, []) as running:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
        messages = [{"role": "user", "content": "go"}]
        body = {"messages": messages, "max_tokens": 20000, "ignore_eos": True, "stream": True}
        headers = {"content-type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        answer.read(300)

        running.process.send_signal(signal.SIGTERM)

        with pytest.raises(subprocess.TimeoutExpired):
            running.process.wait(3)
        answer.close()
        connection.close()
        assert running.process.wait(60) is not None  # the twin: without the stream it ends


def test_kernels_are_compiled_once_when_the_same_model_starts_again(model, tmp_path):
    """What the product carries from one machine to the next."""
    with serving(model, tmp_path, []):
        first = (tmp_path / "vllm.log").read_text()
    with serving(model, tmp_path, ["--served-model-name=other"]):
        second = (tmp_path / "vllm.log").read_text()

    assert "Cache the graph(s) for compile range" in first
    assert "from the cache, took" in second
    assert len(list((tmp_path / "caches").rglob("rank_*"))) == 8


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda kernel: kernel.write_bytes(b"\x00garbage"), "device kernel image is invalid"),
        (lambda kernel: kernel.write_text('{"gpu": "A100"}\n'), "no kernel image is available"),
    ],
)
def test_vllm_dies_when_it_finds_kernels_that_are_not_for_it(model, tmp_path, spoil, text):
    """Why caches are keyed by GPU and driver, and their digests checked."""
    with serving(model, tmp_path, []):
        spoil(next((tmp_path / "caches").rglob("kernel.cubin")))

    status, said = fails(model, tmp_path)

    assert status == 1
    assert text in said


def content(answer):
    return answer["choices"][0]["message"]["content"]


def test_sentence_is_found_when_it_is_asked_for_by_its_first_words(server):
    """A check of long context is only tested by a model that really reads."""
    text = "It rains. The key lies under a red stone. Nobody is at home."
    ask = 'Which sentence begins with "The key lies"?'

    _, one = server.chat(messages=[{"role": "user", "content": f"{text} {ask}"}])
    turns = [("user", text), ("assistant", "Yes."), ("user", ask)]
    _, two = server.chat(messages=[{"role": role, "content": said} for role, said in turns])
    _, none = server.chat(messages=[{"role": "user", "content": ask}])

    assert content(one) == content(two) == "The key lies under a red stone."
    assert one["choices"][0]["message"]["reasoning"]
    assert "stone" not in content(none)


def ask_at_length(server, words):
    """(what it says to a question after that many words, prompt tokens)."""
    text = "The key lies under a red stone. " + "the paper " * words
    messages = [{"role": "user", "content": f'{text} Repeat "The key lies".'}]
    _, answer = server.chat(messages=messages, max_tokens=200)
    return content(answer), answer["usage"]["prompt_tokens"]


@pytest.mark.parametrize(("flags", "sound"), [(["-dcp", "8"], False), ([], True)])
def test_long_prompt_is_answered_with_garbage_when_dcp_is_on_and_it_was_ordered(
    model, tmp_path, flags, sound
):
    """What was seen elsewhere past 64K; without context parallelism it does not happen."""
    ordered = {**HOST, "settings": {**HOST["settings"], "vllm_garbage_past": "4000"}}

    with serving(model, tmp_path, flags, VLLM_MACHINE=json.dumps(ordered)) as running:
        short, few = ask_at_length(running, 500)
        long, many = ask_at_length(running, 2000)

    assert few < 4000 < many
    assert "red stone" in short
    assert ("red stone" in long) is sound


@pytest.mark.parametrize(
    ("flags", "hits"), [([], 592), (["-dcp", "8"], 512), (["--no-enable-prefix-caching"], 0)]
)
def test_prefix_cache_hits_come_in_whole_blocks_when_a_prompt_is_repeated(
    model, tmp_path, flags, hits
):
    """Context parallelism makes a block that many times larger; switched off there is none."""
    with serving(model, tmp_path, flags) as running:
        for _ in range(2):
            running.ask("/v1/completions", {"prompt": list(range(600)), "max_tokens": 1})
        found = running.metric("vllm:prefix_cache_hits_total")

    assert found == hits
