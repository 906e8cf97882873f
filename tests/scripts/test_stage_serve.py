"""vLLM's start: no key must leak, and a dead server must say why."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from startup import serve
from tests.scripts.conftest import SETTINGS

KEY = "k" * 32
URI_LINE = SETTINGS["MAYFLY_WEIGHTS_URI"] + "\n"


@pytest.fixture
def health():
    """A server that answers as vLLM: 200 on /health."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def ready(machine):
    machine.google.secrets["projects/p/secrets/key"] = KEY
    machine.write("mnt/mayfly/weights/config.json", '{"text_config": {"torch_dtype": "bfloat16"}}')
    # Active only once it was started.
    started = machine.root / "started"
    body = (
        f'case "$1" in restart) touch {started} ;; is-active) [[ -e {started} ]] || exit 3 ;; esac'
    )
    machine.stub("systemctl", body=body)
    return machine


def test_serve_stage_hands_the_key_to_systemd_alone_when_it_starts_vllm(ready, run_stage, health):
    """argv and metadata are readable by anybody on the machine; this file only by root."""
    result = run_stage("50-serve.sh", MAYFLY_PORT=str(health.server_port))

    assert result.returncode == 0, result.stderr
    key = ready.root / "run/mayfly-key/env"
    assert key.read_text() == f"VLLM_API_KEY={KEY}\n"
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.parent.stat().st_mode & 0o777 == 0o700
    assert KEY not in result.stdout + result.stderr
    assert not any(KEY in call for call in ready.calls())
    assert ready.calls("systemctl")[1:3] == [
        "systemctl daemon-reload",
        "systemctl restart mayfly-vllm.service",
    ]


def test_serve_stage_leaves_vllm_alone_when_it_already_answers(ready, run_stage, health):
    """A second run of the script must not throw out everybody's requests."""
    (ready.root / "started").touch()

    result = run_stage("50-serve.sh", MAYFLY_PORT=str(health.server_port))

    assert "already answers" in result.stderr
    assert "systemctl restart mayfly-vllm.service" not in ready.calls("systemctl")


class Vllm:
    """A unit that does what each of its starts is told to: words for its log, then death or life.

    With `complete` its weights are there by then, as if they had come meanwhile.
    """

    def __init__(self, machine, port):
        self.machine, self.port = machine, port
        self.log = machine.root / "var/log/mayfly/vllm.log"
        self.state = machine.root / "state"
        self.state.mkdir()

    def starts(self, *plans):
        """plan: (lines of its log, whether it lives)."""
        for number, (lines, lives) in enumerate(plans, 1):
            (self.state / f"log-{number}").write_text("".join(f"{line}\n" for line in lines))
            (self.state / f"lives-{number}").write_text("yes" if lives else "")
        (self.state / "count").write_text("0")
        complete = self.machine.root / "mnt/mayfly/weights/.complete"
        plain = self.machine.root / "run/mayfly/plain-loader"
        body = f"""
cd {self.state}
case "$1" in
restart)
  count=$(($(<count) + 1))
  echo $count >count
  cat log-$count >>{self.log}
  cat lives-$count >lives
  said=plain
  if [[ -e {plain} ]]; then said=plainest; fi
  if [[ ! -e {complete} ]]; then said=early; fi
  echo $said >>how
  ;;
is-active)
  if [[ -n "$(cat lives)" ]]; then exit 0; fi
  if [[ -e complete && -e how ]]; then cp complete {complete}; fi
  exit 3
  ;;
esac
"""
        self.machine.stub("systemctl", body=body)

    def weights_come_after_its_death(self):
        (self.state / "complete").write_text(URI_LINE)

    def weights_are_there(self):
        self.machine.write("mnt/mayfly/weights/.complete", URI_LINE)

    def how(self):
        return (self.state / "how").read_text().split()


@pytest.fixture
def vllm(ready, health):
    return Vllm(ready, health.server_port)


PLUGIN = ["ValueError: Load format `mayfly` is not supported", "RuntimeError: Engine core failed"]
MEMORY = ["vllm.mayfly mayfly: all groups loaded: waited 3 s", "ValueError: No available memory"]


def test_serve_stage_starts_plainly_when_the_plugin_does_not_load(vllm, ready, run_stage, health):
    """An engine of another version must cost a minute, not the session."""
    vllm.starts((PLUGIN, False), (["INFO it serves"], True))
    vllm.weights_come_after_its_death()

    # It answers only when it lives: the port is nobody's until the second start.
    ready.stub("curl", body=f'[[ -n "$(cat {vllm.state}/lives)" ]] || exit 7')
    result = run_stage("50-serve.sh")

    assert result.returncode == 0, result.stderr
    assert vllm.how() == ["early", "plainest"]
    assert "starts again when they are" in result.stderr
    assert "Load format `mayfly` is not supported" in ready.google.guest["message"]
    assert "not supported" in ready.read("var/log/mayfly/vllm.log.early")  # kept for a look


def test_serve_stage_gives_up_the_kernel_caches_too_when_the_plain_start_dies(
    vllm, ready, run_stage
):
    """Two things can be in vLLM's way at once; neither may end the session."""
    vllm.starts((PLUGIN, False), (["RuntimeError: no kernel image"], False), (["INFO"], True))
    vllm.weights_come_after_its_death()
    ready.write("run/mayfly/kernel-caches", "gs://c/kernels/k\n")
    ready.write("var/cache/mayfly-vllm/triton/kernel.cubin", "for another GPU")
    ready.stub("curl", body=f'[[ -n "$(cat {vllm.state}/lives)" ]] || exit 7')

    result = run_stage("50-serve.sh")

    assert result.returncode == 0, result.stderr
    assert vllm.how() == ["early", "plainest", "plainest"]
    assert "without the kernel caches of gs://c/kernels/k" in ready.google.guest["message"]
    assert not list((ready.root / "var/cache/mayfly-vllm").iterdir())


@pytest.mark.parametrize(
    ("plans", "complete", "how"),
    [
        ([(PLUGIN, False), (["ValueError: No available memory"], False)], False, 2),
        ([(MEMORY, False)], False, 1),  # the plugin has done its part
        ([(["ValueError: No available memory"], False)], True, 1),  # there was no plugin
        ([(["vllm serve: error: unrecognized arguments: --No available memory"], False)], False, 1),
    ],
)
def test_serve_stage_quotes_vllms_last_lines_when_no_other_start_would_help(
    vllm, ready, run_stage, plans, complete, how
):
    """ "Failed to start" sends people to search; another try costs minutes of eight GPUs."""
    vllm.starts(*plans)
    vllm.weights_are_there() if complete else vllm.weights_come_after_its_death()
    ready.stub("curl", exit_status=7)

    result = run_stage("50-serve.sh")

    assert result.returncode == 1
    assert len(vllm.how()) == how
    assert "No available memory" in ready.why("50-serve")
    assert "s after its start" in ready.why("50-serve")


def test_serve_stage_waits_for_the_shards_when_the_model_names_no_dtype(vllm, ready, run_stage):
    """vLLM would guess it from whichever shards are there, and compute with the wrong one."""
    ready.write("mnt/mayfly/weights/config.json", '{"architectures": ["K"]}')
    vllm.starts((["INFO"], True))
    complete = ready.root / "mnt/mayfly/weights/.complete"
    ready.stub("sleep", body=f"cp {ready.write('uri', URI_LINE)} {complete}")
    ready.stub("curl")

    result = run_stage("50-serve.sh")

    assert result.returncode == 0, result.stderr
    assert vllm.how() == ["plain"]
    assert "names no dtype" in ready.google.guest["message"]


STARTING = [
    ("(APIServer pid=1) INFO version 0.24.0", "imports its code"),
    ("INFO [shards.py:9] mayfly: waiting for model-9: 8 of 64 here", "waits for shards, 8 of 64"),
    ("INFO [loader.py:9] mayfly: group 3 of 16 is here, waited 0.1 s", "loads shards, group 3 of"),
    ("Loading safetensors checkpoint shards:  40% Completed | 4/10", "loads shards, 40%"),
    ("INFO Model loading took 66.19 GiB memory and 9.1 seconds", "has its weights and compiles"),
    ("INFO [monitor.py:53] torch.compile took 17.08 s in total", "warms up"),
    ("INFO GPU KV cache size: 8,911,920 tokens", "captures CUDA graphs"),
    ("INFO init engine (profile, create kv cache, warmup model) took 34.64 s", "opens its port"),
]


@pytest.mark.parametrize("count", range(1, len(STARTING) + 1))
def test_serve_stage_tells_how_far_vllm_is_when_it_starts(vllm, ready, run_stage, count):
    """Minutes without a word look like a machine that hangs."""
    vllm.starts(([line for line, _ in STARTING[:count]], True))
    vllm.weights_are_there()
    asked = vllm.state / "asked"
    ready.stub("curl", body=f"[[ -e {asked} ]] || {{ touch {asked}; exit 7; }}")  # the second time

    assert run_stage("50-serve.sh").returncode == 0
    assert STARTING[count - 1][1] in ready.google.guest["message"]


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("", "holds no usable key"),
        ("short", "holds no usable key"),
        ("two\nlines" * 9, "holds no usable key"),
        (None, "there is no API key in projects/p/secrets/key"),
    ],
)
def test_serve_stage_never_starts_when_there_is_no_usable_key(ready, run_stage, key, line):
    """No key must not mean an open endpoint."""
    ready.google.secrets.clear()
    if key is not None:
        ready.google.secrets["projects/p/secrets/key"] = key

    result = run_stage("50-serve.sh")

    assert result.returncode == 1
    assert line in ready.why("50-serve")
    assert "systemctl restart mayfly-vllm.service" not in ready.calls("systemctl")


def test_serve_command_binds_loopback_and_guards_every_path_when_flags_are_added(machine):
    """vLLM binds all interfaces unless told otherwise."""
    command = serve.argv({**SETTINGS, "MAYFLY_SERVE_FLAGS": '["--max-num-seqs", "8"]'})

    assert command[1] == "serve"
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--middleware") + 1] == "startup.key_guard.KeyGuard"
    assert json.loads(command[command.index("--allowed-origins") + 1])
    assert command[-2:] == ["--max-num-seqs", "8"]
    assert "--api-key" not in command


@pytest.mark.parametrize(
    ("complete", "load_format"),
    [("", "mayfly"), ("gs://w/models/other/abc\n", "mayfly"), (URI_LINE, "instanttensor")],
)
def test_serve_command_waits_for_shards_only_until_they_are_all_there(
    machine, complete, load_format
):
    """A start over, after a failed check, must not depend on the plugin that may have failed."""
    machine.write("mnt/mayfly/weights/.complete", complete)

    settings = {**SETTINGS, "MAYFLY_LOAD_FORMAT": "instanttensor"}

    command, environment = serve.argv(settings), serve.environment(settings)

    assert command[command.index("--load-format") + 1] == load_format
    metadata = machine.root / "opt/mayfly/startup/vllm_plugin/metadata"
    assert (str(metadata) in environment.get("PYTHONPATH", "")) == (load_format == "mayfly")
    assert environment["VLLM_ENGINE_READY_TIMEOUT_S"] == "1800"  # its own 600 s are too short


def test_serve_command_takes_vllms_own_loader_when_the_start_with_the_plugin_died(machine):
    """The plugin hands shards to the profile's loader: which of the two it was, nobody knows."""
    machine.write("mnt/mayfly/weights/.complete", URI_LINE)
    machine.write("run/mayfly/plain-loader", "")

    command = serve.argv({**SETTINGS, "MAYFLY_LOAD_FORMAT": "instanttensor"})

    assert command[command.index("--load-format") + 1] == "safetensors"


def test_serve_command_takes_the_flags_of_this_boot_when_there_are_any(machine):
    """The safe mode after a failed check: the profile's own flags would only fail again."""
    machine.write("run/mayfly/serve-flags", '["--max-model-len=32768"]\n')

    assert serve.argv({**SETTINGS, "MAYFLY_SERVE_FLAGS": '["-dcp=8"]'})[-1] == (
        "--max-model-len=32768"
    )
