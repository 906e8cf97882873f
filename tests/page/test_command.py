"""`mayfly dashboard` as a command: what it refuses before it serves, and what it leaves behind."""

import json
import os
import signal
import socket

from local.children import free_port
from mayfly import cli
from tests.desk.conftest import checkout, google  # noqa: F401
from tests.page.asking import ask, post, swap
from tests.page.crew import Stage
from tests.waiting import wait_until

START_S = 60
SLOW = """#!/bin/sh
if [ "$1" = destroy ]; then read -r _ <"$STUB_HOME/gate"; fi
exec "$(dirname "$0")/pulumi-at-once" "$@"
"""


def test_dashboard_says_so_in_three_lines_when_nothing_answers(checkout, capsys):  # noqa: F811
    """A page without a cloud behind it would be an empty one, and read as "nothing runs"."""
    os.environ["GOOGLE_PROJECT"] = "p-for-tests"
    os.environ["GOOGLE_COMPUTE_CUSTOM_ENDPOINT"] = "http://127.0.0.1:9/compute/v1/"

    assert cli.main(["dashboard", "--port", str(free_port())]) == 1

    out, err = capsys.readouterr()
    assert err.splitlines()[0] == "Google does not answer: no connection to 127.0.0.1:9."
    assert out == ""


def test_dashboard_refuses_a_port_that_is_in_use(checkout, capsys):  # noqa: F811
    """Another program's page under our printed URL would get the token."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]

        assert cli.main(["dashboard", "--port", str(port)]) == 2

    assert f"--port {port}: it is in use on this machine." in capsys.readouterr().err


def test_dashboard_takes_its_tunnels_along_when_it_is_terminated(own_stage: Stage):
    """A forgotten ssh would hold the port, and the line to a machine that costs money."""
    dashboard = own_stage.dashboard
    cookie = swap(dashboard)
    machine = {"session": "dev", "vm_id": "1000"}
    assert post(dashboard, "/connect", machine, Cookie=cookie)[0] == 200
    _, text = ask(dashboard, "GET", "/sessions", Cookie=cookie)
    (row,) = json.loads(text[text.index("{") :])["sessions"]
    port = int(row["base_url"].rpartition(":")[2].partition("/")[0])

    dashboard.process.send_signal(signal.SIGTERM)

    assert dashboard.process.wait(START_S) == 0
    with socket.socket() as probe:
        probe.settimeout(10)
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_dashboard_waits_for_a_destroy_that_is_under_way(own_stage: Stage):
    """Cut off half-way it would leave a lock and a machine."""
    dashboard = own_stage.dashboard
    gate = own_stage.folder / "gate"
    os.mkfifo(gate)
    pulumi = own_stage.folder / "bin/pulumi"
    pulumi.rename(pulumi.with_name("pulumi-at-once"))
    pulumi.write_text(SLOW)
    pulumi.chmod(0o755)
    cookie = swap(dashboard)
    assert post(dashboard, "/down", {"session": "dev", "vm_id": "1000"}, Cookie=cookie)[0] == 200

    dashboard.process.send_signal(signal.SIGINT)
    err = own_stage.folder / "err"
    wait_until(lambda: "waiting for its end" in err.read_text(), START_S)
    assert dashboard.process.poll() is None
    own_stage.google.instances.clear()  # what the destroy that waits is about to do
    gate.write_text("go")

    assert dashboard.process.wait(START_S) == 0
    assert "dev is gone" in err.read_text()
