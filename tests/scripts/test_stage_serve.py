"""The engine and its server: no key must leak, and a dead server must say why."""

import io
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from startup import serve
from tests.fake_google import manifest_of
from tests.scripts.conftest import SETTINGS

URI = "gs://w/engines/e1"
KEY = "k" * 32
URI_LINE = SETTINGS["MAYFLY_WEIGHTS_URI"] + "\n"


def environment_archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in names:
            entry = tarfile.TarInfo(f"mayfly-engine/{name}")
            entry.mode, entry.size = 0o755, 2
            tar.addfile(entry, io.BytesIO(b"#!"))
    return buffer.getvalue()


@pytest.fixture
def engine(machine):
    archives = {
        "env-00.tar.gz": environment_archive("env/bin/vllm", "python/bin/python3"),
        "env-01.tar.gz": environment_archive("env/bin/helper", "python/bin/pip"),
    }
    for name, data in archives.items():
        machine.google.put(f"{URI}/{name}", data)
    machine.google.put(f"{URI}/manifest.json", manifest_of(archives))
    return machine


def test_engine_stage_unpacks_the_environment_once_when_it_runs_twice(engine, run_stage):
    """5 GB again at each boot would be half a minute of eight GPUs."""
    assert run_stage("40-engine.sh").returncode == 0
    for name in ("env/bin/vllm", "python/bin/python3", "env/bin/helper", "python/bin/pip"):
        assert (engine.root / "opt/mayfly-engine" / name).exists()

    result = run_stage("40-engine.sh")

    assert "already in" in result.stderr
    assert len(engine.calls("gsutil")) == 1


def test_engine_stage_refuses_an_archive_when_its_sha256_is_not_the_manifests(engine, run_stage):
    """It is code, and it would see the key."""
    engine.google.put(f"{URI}/env-01.tar.gz", environment_archive("env/bin/vllm", "evil"))

    result = run_stage("40-engine.sh")

    assert result.returncode == 1
    assert "is not what its manifest says" in engine.why("40-engine")
    assert not (engine.root / "opt/mayfly-engine").exists()


def test_engine_stage_leaves_no_engine_when_an_archive_is_torn(engine, run_stage):
    """One of 32 that fails must not be lost among 31 that do not."""
    torn = environment_archive("env/bin/helper")[:60]
    engine.google.put(f"{URI}/env-01.tar.gz", torn)
    good = {"env-00.tar.gz": engine.google.read(f"{URI}/env-00.tar.gz"), "env-01.tar.gz": torn}
    engine.google.put(f"{URI}/manifest.json", manifest_of(good))

    assert run_stage("40-engine.sh").returncode == 1

    assert "could not unpack the engine" in engine.why("40-engine")
    assert not (engine.root / "opt/mayfly-engine/.complete").exists()


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (None, f"there is no engine at {URI}; run: mayfly seed kimi-k2.5"),
        ({"other.txt": b"x"}, "names no env-<n>.tar.gz"),
    ],
)
def test_engine_stage_names_the_command_when_there_is_no_engine(machine, run_stage, files, line):
    """Seeding builds it; the node cannot."""
    if files:
        machine.google.put(f"{URI}/manifest.json", manifest_of(files))

    assert run_stage("40-engine.sh").returncode == 1
    assert line in machine.why("40-engine")


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


def test_serve_stage_quotes_vllms_last_lines_when_it_dies(ready, run_stage, stub):
    """ "Failed to start" sends people to search; the reason is in its last lines."""
    log = ready.root / "var/log/mayfly/vllm.log"
    stub(
        "systemctl",
        body=f'case "$1" in restart) echo "ValueError: No available memory" >{log} ;; '
        "is-active) exit 3 ;; esac",
    )

    result = run_stage("50-serve.sh")

    assert result.returncode == 1
    assert "ValueError: No available memory" in ready.why("50-serve")
    assert "s after its start" in ready.why("50-serve")


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

    command, environment = serve.argv(SETTINGS), serve.environment(SETTINGS)

    assert command[command.index("--load-format") + 1] == load_format
    metadata = machine.root / "opt/mayfly/startup/vllm_plugin/metadata"
    assert (str(metadata) in environment.get("PYTHONPATH", "")) == (load_format == "mayfly")
    assert environment["VLLM_ENGINE_READY_TIMEOUT_S"] == "1800"  # its own 600 s are too short


def test_serve_command_takes_the_flags_of_this_boot_when_there_are_any(machine):
    """The safe mode after a failed check: the profile's own flags would only fail again."""
    machine.write("run/mayfly/serve-flags", '["--max-model-len=32768"]\n')

    assert serve.argv({**SETTINGS, "MAYFLY_SERVE_FLAGS": '["-dcp=8"]'})[-1] == (
        "--max-model-len=32768"
    )
