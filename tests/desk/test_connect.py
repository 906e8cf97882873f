"""`mayfly connect`: the endpoint on this machine for as long as it is wanted, whatever breaks."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from local.children import free_port
from mayfly import cli, vms
from mayfly.tunnel import command
from tests.desk import schemas
from tests.desk.google import PROJECT, ZONE, Google, stamp
from tests.running import running

# Listens where ssh would; a file "break" makes it end, a file "refuse" keeps it from working.
GCLOUD = """#!{python}
import http.server, os, sys, threading, time
folder = os.environ["STUB_FOLDER"]
with open(folder + "/calls", "a") as f: f.write(" ".join(sys.argv[1:]) + chr(10))
if os.path.exists(folder + "/refuse"): sys.exit("ERROR: (gcloud.compute.ssh) no such tunnel")
port = int(sys.argv[sys.argv.index("-L") + 1].split(":")[1])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self): self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
while not os.path.exists(folder + "/break"): time.sleep(0.02)
os.unlink(folder + "/break")
"""


def wait(what: str, done: Callable[[], object], limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < deadline, f"waited {limit_s} s for {what}"
        time.sleep(0.05)


class Connection:
    """A running `mayfly connect`."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        self.err = folder / "err"
        out = folder / "out"
        with out.open("wb") as stdout, self.err.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mayfly.cli", "connect", "--json", *words],
                stdout=stdout,
                stderr=stderr,
            )
        wait("the connection", lambda: out.read_text() or self.process.poll() is not None)
        self.found = json.loads(out.read_text() or "{}")

    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture
def connected(google: Google, checkout: Path, stub):
    """connected(*words) starts a connection to a serving session "dev"; all end with the test."""
    stub("gcloud", GCLOUD.format(python=sys.executable))
    os.environ["STUB_FOLDER"] = str(checkout)
    key = f"projects/{PROJECT}/secrets/k"
    google.add_vm("dev", served_model="kimi", api_key_secret=key, state_bucket="state")
    google.secrets[f"projects/{PROJECT}/secrets/k"] = "sk-the-key"
    google.serving("dev")
    started: list[Connection] = []

    def start(*words: str) -> Connection:
        started.append(Connection(checkout, *words))
        return started[-1]

    yield start
    for connection in started:
        if connection.process.poll() is None:
            connection.end()


def taken_port() -> socket.socket:
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    holder.listen()
    return holder


def test_tunnel_command_is_the_one_that_users_can_type(google: Google):
    """Through IAP, never to an address of the VM's own: it has none."""
    google.add_vm("dev")
    vm = vms.parse(google.instances["1000"])
    text = " ".join(command(vm, PROJECT, 8123))

    assert text.startswith(f"gcloud compute ssh mayfly-dev --zone {ZONE} --project {PROJECT}")
    assert "--tunnel-through-iap" in text
    assert "-- -N -L 127.0.0.1:8123:localhost:8000" in text


def test_connect_prints_the_base_url_and_leaves_nothing_when_interrupted(connected):
    """Ctrl-C is how everybody ends it; a forgotten ssh would hold the port."""
    connection = connected("dev")
    port = connection.found["port"]
    schemas.check(schemas.CONNECT, connection.found)

    assert connection.found["base_url"] == f"http://127.0.0.1:{port}/v1"
    assert "api_key" not in connection.found
    assert connection.end() == 0
    with socket.socket() as probe:
        probe.settimeout(2)
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert "The session goes on" in connection.err.read_text()


def test_connect_ends_its_tunnel_when_it_is_terminated(connected):
    """A service manager or a closed terminal sends SIGTERM, not Ctrl-C."""
    connection = connected()

    assert connection.end(signal.SIGTERM) == 0
    with socket.socket() as probe:
        probe.settimeout(2)
        assert probe.connect_ex(("127.0.0.1", connection.found["port"])) != 0


def test_connect_shows_the_key_when_it_is_asked_to(connected):
    """Shown only on request: terminals are shared and recorded."""
    assert connected("dev", "--show-key").found["api_key"] == "sk-the-key"


def test_connect_takes_the_next_port_and_says_so_when_one_is_in_use(connected, checkout):
    """Two sessions at once are normal; the second must not fail over a number."""
    with taken_port() as holder:
        port = holder.getsockname()[1]
        (checkout / "Pulumi.dev.yaml").write_text(f"config:\n  mayfly:localPort: {port}\n")
        connection = connected("dev")

    assert connection.found["port"] > port
    assert f"Port {port} is in use" in connection.err.read_text()


def test_connect_exits_2_when_the_wished_port_is_in_use(google: Google, checkout, capsys):
    """Whoever names a port has written it down elsewhere."""
    with taken_port() as holder:
        port = holder.getsockname()[1]
        assert cli.main(["connect", "dev", "--port", str(port)]) == 2

    assert f"--port {port}: it is in use" in capsys.readouterr().err


def test_connect_connects_again_when_the_line_breaks(connected):
    """A laptop sleeps; an evaluation of hours must go on afterwards."""
    connection = connected("dev")
    port = connection.found["port"]
    (connection.folder / "break").touch()

    wait("the second tunnel", lambda: "Connected again" in connection.err.read_text())

    assert len(connection.calls()) == 2
    assert f"-L 127.0.0.1:{port}:localhost" in connection.calls()[1]


def test_connect_says_once_that_the_line_broke_when_it_stays_broken(connected):
    """A night offline must not fill a terminal."""
    connection = connected("dev")
    (connection.folder / "refuse").touch()
    (connection.folder / "break").touch()

    wait("a third try", lambda: len(connection.calls()) >= 3)
    (connection.folder / "refuse").unlink()
    wait("the line", lambda: "Connected again" in connection.err.read_text())

    assert connection.err.read_text().count("The line broke") == 1


def test_connect_exits_1_when_the_session_ended_meanwhile(connected, google: Google):
    """Reconnecting for ever to a machine that is gone hides that the work stopped."""
    connection = connected("dev")
    google.instances.clear()
    (connection.folder / "break").touch()

    assert connection.process.wait(60) == 1
    assert "Session dev does not serve: it is gone." in connection.err.read_text()


def test_connect_leads_to_the_next_vm_when_somebody_brings_one_up(connected, google: Google):
    """`mayfly up --watch`: the client's address stays, whatever VM is behind it."""
    connection = connected("dev")
    port = connection.found["port"]
    until = stamp(time.time() + 120)
    google.objects["state", "leases/dev.watch"] = json.dumps({"until": until, "by": "a"}).encode()
    google.instances.clear()
    (connection.folder / "break").touch()
    wait("the word", lambda: "`mayfly up --watch` brings up another" in connection.err.read_text())

    google.add_vm("dev", served_model="kimi")

    wait("the next VM", lambda: "Connected again" in connection.err.read_text())
    assert connection.process.poll() is None
    assert f"-L 127.0.0.1:{port}:localhost" in connection.calls()[1]


def test_connect_waits_and_says_so_once_when_google_does_not_answer_either(
    connected, google: Google
):
    """A laptop in a tunnel, or a bad minute of Google's: the client's address must outlast it."""
    connection = connected("dev")
    google.fail += [503] * 8  # what two rounds of the door's own tries meet
    (connection.folder / "break").touch()

    wait("the line", lambda: "Connected again" in connection.err.read_text(), 60)
    assert connection.process.poll() is None
    assert connection.err.read_text().count("; asking again, for 15 min at most.") == 1


def test_connect_exits_1_with_gclouds_words_when_there_is_no_tunnel(connected, checkout):
    """IAP refusals say what right is missing; swallowing them costs an hour."""
    (checkout / "refuse").touch()
    connection = connected("dev")

    assert connection.process.wait(60) == 1
    err = connection.err.read_text()
    assert "no such tunnel" in err
    assert "The tunnel to mayfly-dev ended with status 1" in err


def test_connect_says_the_phase_and_waits_when_the_session_is_starting(connected, google: Google):
    """Whoever connects early wants to see what it waits for."""
    google.say("dev", phase="weights")
    with running(
        [sys.executable, "-m", "mayfly.cli", "connect", "dev", "--port", str(free_port())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as connection:
        assert connection.stderr is not None
        assert connection.stdout is not None
        assert connection.stderr.readline() == "dev is not serving yet: weights\n"
        google.serving("dev")
        assert connection.stdout.readline().startswith("export OPENAI_BASE_URL=http://127.0.0.1:")
        connection.send_signal(signal.SIGINT)
        connection.communicate(timeout=60)
    assert connection.returncode == 0


@pytest.mark.parametrize("phase", ["failed", "ended"])
def test_connect_exits_1_when_the_session_will_not_serve(google: Google, checkout, capsys, phase):
    """Waiting for a failed machine would look like a slow start."""
    google.add_vm("dev")
    google.say("dev", phase=phase, message="driver 570 stayed")

    assert cli.main(["connect", "dev"]) == 1

    assert "does not serve: driver 570 stayed" in capsys.readouterr().err


def test_connect_exits_2_naming_the_sessions_when_there_is_no_such_one(
    google: Google, checkout, capsys
):
    """The names that there are tell a typo from a session that ended."""
    google.add_vm("dev")
    google.add_vm("night")
    google.add_vm("seed", layer="seed")

    assert cli.main(["connect", "bev"]) == 2
    assert cli.main(["connect"]) == 2

    err = capsys.readouterr().err
    assert f"No session 'bev' in {PROJECT}.\nSessions there: dev, night." in err
    assert "Which session?\nSessions there: dev, night." in err


def test_connect_exits_2_naming_the_session_when_google_cannot_be_asked(checkout, capsys):
    """A wrong name on a machine that is offline is still a wrong name."""
    os.environ |= {
        "GOOGLE_PROJECT": PROJECT,
        "GOOGLE_COMPUTE_CUSTOM_ENDPOINT": "http://127.0.0.1:9/compute/v1/",
    }

    assert cli.main(["connect", "no-such-session"]) == 2

    assert "Session 'no-such-session': not in this checkout" in capsys.readouterr().err
