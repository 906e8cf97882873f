"""The check before anybody is told that it serves: /health is 200 while a model writes garbage."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from startup import nccl_env

KEY = "k" * 32
FLAGS = '["--enable-auto-tool-choice"]'
SAFE = '["--max-model-len=32768"]'


def answer(content, *, tokens=5, **message):
    """A chat completion of about 2 000 prompt tokens."""
    usage = {"prompt_tokens": 2000, "completion_tokens": tokens, "total_tokens": 2000 + tokens}
    return 200, {"choices": [{"message": {"content": content, **message}}], "usage": usage}


def tool_call(arguments, name="get_weather"):
    return answer(None, tool_calls=[{"function": {"name": name, "arguments": arguments}}])


class Model(ThreadingHTTPServer):
    """Answers as a sound vLLM does, but for the questions in `answers`.

    A question is known as chat, tool, first, second or needle. hits: what a second turn finds.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.answers = {}, {}
        self.hits, self.total, self.caching, self.max_model_len = 1900, 0, True, 32768
        self.card = {"id": "kimi-k2.5", "max_model_len": self.max_model_len}

    def get(self, path):
        if path == "/v1/models":
            return 200, {"data": [{"id": "kimi-k2.5", "max_model_len": self.max_model_len}]}
        labels = f'enable_prefix_caching="{self.caching}",engine="0"'
        return 200, (
            f"vllm:cache_config_info{{{labels}}} 1.0\n"
            f'vllm:prefix_cache_hits_total{{engine="0"}} {float(self.total)}\n'
        )

    def post(self, path, key, body):
        if path == "/tokenize":
            return 200, {"count": len(body["prompt"].split())}
        kind = self.kind(body)
        self.asked[kind] = key, body
        if kind == "second":
            self.total += self.hits
        return self.answers.get(kind) or self.sound(kind, body)

    def kind(self, body):
        text = body["messages"][-1]["content"]
        if body.get("tools"):
            return "tool"
        if len(body["messages"]) > 1:
            return "second"
        return "first" if "ready" in text else "needle" if "Repeat" in text else "chat"

    def sound(self, kind, body):
        if kind == "tool":
            return tool_call('{"city": "Paris"}')
        text = " ".join(message["content"] for message in body["messages"])
        opened = [rf"{re.escape(name)} is [^.]+\." for name in re.findall('"([^"]+)"', text)]
        found = [re.search(pattern, text)[0] for pattern in opened]
        return answer(" ".join(found) or "Hello.")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply(*self.server.get(self.path))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.reply(*self.server.post(self.path, self.headers["Authorization"], body))

    def reply(self, status, said):
        data = said.encode() if isinstance(said, str) else json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def model():
    server = Model()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def check(machine, run_stage, model):
    machine.write("run/mayfly-key/env", f"VLLM_API_KEY={KEY}\n")
    machine.stub("systemctl", body="echo 7")  # vLLM's main process
    machine.write("proc/7/environ", "\0".join(f"{k}={v}" for k, v in nccl_env.WANTED.items()))

    def run(flags=FLAGS, **more):
        port = str(model.server_port)
        return run_stage("60-check.sh", MAYFLY_PORT=port, MAYFLY_SERVE_FLAGS=flags, **more)

    return run


def test_check_stage_asks_what_an_agent_asks_when_tools_are_on(check, model, machine):
    """With the key, in turns, for a tool; and says how far the endpoint goes."""
    result = check()

    assert result.returncode == 0, result.stderr
    assert set(model.asked) == {"chat", "tool", "first", "second"}
    assert {key for key, _ in model.asked.values()} == {f"Bearer {KEY}"}
    assert model.asked["tool"][1]["tools"][0]["function"]["name"] == "get_weather"
    assert "tool call: get_weather" in result.stderr
    assert "second turn: 1900 tokens from the prefix cache" in result.stderr
    assert json.loads(machine.google.guest["endpoint"]) == {
        "mode": "fast",
        "max_model_len": 32768,
        "served_model": "kimi-k2.5",
    }
    port = model.server_port
    said = machine.read("run/mayfly/answers")
    assert said == f"kimi-k2.5 answers on 127.0.0.1:{port}, up to 32,768 tokens (mode fast)"


def test_check_stage_is_red_when_vllm_runs_with_other_nccl_settings(check, machine, model):
    """NCCL may work today and look for a network card that is not there tomorrow."""
    machine.write("proc/7/environ", "NCCL_NET=gIB\0PATH=/usr/bin\0")

    assert check().returncode == 1
    assert "NCCL_NET is 'gIB', not 'Socket'" in machine.why("60-check")
    assert model.asked == {}


def test_check_stage_asks_for_no_tool_when_the_profile_has_none(check, model):
    """vLLM answers 400 to tool_choice auto without its flag."""
    assert check(flags="[]").returncode == 0
    assert "tool" not in model.asked


def test_check_stage_forgives_when_a_call_was_cut_off_by_its_length(check, model):
    """A model that thinks for long is not broken; half a call cannot be judged."""
    status, said = tool_call('{"city": "Par')
    said["choices"][0]["finish_reason"] = "length"
    model.answers["tool"] = status, said

    assert check().returncode == 0


def test_check_stage_does_not_insist_on_hits_when_prefix_caching_is_off(check, model):
    """A profile may switch it off; the second turn's answer is judged all the same."""
    model.hits, model.caching = 0, False

    assert check().returncode == 0


@pytest.mark.parametrize(
    ("kind", "said", "line"),
    [
        ("chat", (500, {"error": "engine dead"}), "chat: 127.0.0.1:"),
        ("chat", (200, {"choices": []}), "no chat completion came back"),
        ("chat", (200, []), "answered no JSON object"),
        ("chat", (200, "<html>"), "answered no JSON"),
        ("chat", answer(""), "it answered with nothing"),
        ("chat", answer("x", tokens=0), "it counts tokens wrongly"),
        ("tool", tool_call("{city"), "tool call: its arguments are no JSON"),
        ("tool", tool_call("{}"), "tool call: it makes no sense"),
        ("second", answer("!!!!"), "second turn: it does not know what the first one said"),
    ],
)
def test_check_stage_fails_with_the_reason_when_an_answer_is_wrong(
    check, model, machine, kind, said, line
):
    """There is no safer mode to go back to here: what is told is all that people have."""
    model.answers[kind] = said

    assert check().returncode == 1
    assert line in machine.why("60-check")
    assert "endpoint" not in machine.google.guest


def test_check_stage_fails_when_a_second_turn_finds_nothing_in_the_prefix_cache(
    check, model, machine
):
    """Every turn of an agent would be computed from its beginning."""
    model.hits = 0

    assert check().returncode == 1
    assert "second turn: only 0 of the first one's tokens came" in machine.why("60-check")


def test_check_stage_names_every_reason_when_several_checks_fail(check, model, machine):
    """The second may explain the first."""
    model.answers |= {"chat": answer(""), "second": answer("x")}

    check()

    assert "chat: it answered with nothing; second turn: it does not" in machine.why("60-check")


@pytest.mark.parametrize("models", [(200, {"data": []}), (401, {"error": "Unauthorized"})])
def test_check_stage_fails_when_the_endpoint_names_no_model(check, model, machine, models):
    """The claim would be a guess."""
    model.get = lambda path: models

    assert check().returncode == 1
    assert machine.why("60-check").startswith("the endpoint answers, but not as it should: ")


def test_needle_lies_past_64k_when_the_mode_is_long(check, model):
    """Elsewhere context parallelism has written garbage from there on."""
    model.max_model_len = 262144

    result = check(MAYFLY_MODE="long")

    assert result.returncode == 0, result.stderr
    text = model.asked["needle"][1]["messages"][0]["content"]
    before = text[: text.index("The number of the south mill is")]
    assert 65_536 < len(before.split()) < 70_000
    assert "needle: found at" in result.stderr


def test_needle_keeps_within_the_context_when_that_is_shorter_than_64k(check, model):
    """A prompt that does not fit is a 400, not a check."""
    model.max_model_len = 20_000

    assert check(MAYFLY_MODE="long").returncode == 0
    text = model.asked["needle"][1]["messages"][0]["content"]
    assert 15_000 < len(text.split()) < 20_000 - 1024


def test_texts_are_others_when_the_check_runs_again(check, model):
    """A prefix from the cache would hide what computing it yields."""
    check()
    first = model.asked["first"][1]["messages"][0]["content"]
    check()

    assert model.asked["first"][1]["messages"][0]["content"] != first


def test_check_stage_says_that_it_cannot_look_when_vllm_shows_no_environment(check, model, machine):
    """Who is sent to look for wrong settings where none are loses an hour."""
    machine.write("proc/7/environ", "")

    assert check().returncode == 1
    assert machine.why("60-check") == (
        "could not look for gIB: mayfly-vllm.service shows no environment\n"
    )
    assert not model.asked


def test_check_stage_fails_when_the_mode_that_failed_cannot_be_stopped(check, model, machine):
    """What then still answers would be told as the safe mode."""
    machine.stub("systemctl", body='if [[ "$1" == stop ]]; then exit 1; fi; echo 7')
    model.answers["chat"] = answer("")

    result = check(MAYFLY_MODE="long", MAYFLY_SAFE_FLAGS=SAFE)

    assert result.returncode == 1
    assert machine.why("60-check").endswith("and its vLLM does not stop\n")
    assert "endpoint" not in machine.google.guest
