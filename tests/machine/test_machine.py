"""A created instance really boots, and everything of it goes away again."""

import socket
import subprocess
import sys
import threading

import pytest

from local.children import free_port
from local.machine import Machines
from tests.machine.vllm_server import ROOT

SERVER = """#!/bin/sh
echo really-up
exec python3 -m http.server --bind 127.0.0.1 {port}
"""


def test_machine_runs_its_startup_script_as_root_when_booted(boot):
    """The scripts that are tested must be the scripts that run, with the rights they expect."""
    machine = boot("#!/bin/bash\nid -u\nhostname\necho done-$BASH_VERSINFO\n")

    console = machine.console("done-")

    assert "startup-script: 0\n" in console
    assert "startup-script: mayfly-test\n" in console


def test_machine_publishes_guest_attributes_when_it_puts_one(boot):
    """They are how the reaper and the readiness command see the machine."""
    machine = boot(
        "#!/bin/sh\ncurl -sf -X PUT -H 'Metadata-Flavor: Google' -d serving "
        "http://metadata.google.internal/computeMetadata/v1/instance/guest-attributes/mayfly/phase"
        "\necho put-$?\n"
    )

    machine.console("put-0")

    assert [(machine.id, "mayfly/phase", "serving")] == machine.told


def test_portal_leads_to_loopback_ports_only_inside_the_machine(boot):
    """The tunnel must reach the machine's port, and no port of the host may be taken."""
    port = free_port()
    machine = boot(SERVER.format(port=port))
    machine.console("really-up")

    with wait_for_port(machine, port) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert connection.recv(15) == b"HTTP/1.0 200 OK"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1).close()


def wait_for_port(machine, port):
    """Connect as soon as somebody listens."""
    deadline = threading.Event()
    for _ in range(100):
        try:
            return machine.machines.connect(machine.id, port)
        except RuntimeError as error:
            last = error
            deadline.wait(0.1)
    raise last


def test_stopped_machine_leaves_its_disk_and_destroyed_one_leaves_nothing(boot):
    """A stopped instance can be started again; a deleted one must not cost a byte."""
    machine = boot("#!/bin/sh\necho hello >>/root/count\ncat /root/count\necho ready-$$\n")
    machine.console("ready-")

    machine.machines.stop(machine.id)
    assert not machine.machines.running(machine.id)
    assert machine.off == []
    machine.machines.destroy(machine.id)

    assert list(machine.machines.directory.iterdir()) == []


FORBIDDEN = """
echo 0 >/proc/sys/user/max_user_namespaces
exec "$0" -c 'from local.machine import Machines; Machines.preflight()'
"""


def test_preflight_names_the_remedy_when_the_host_forbids_user_namespaces():
    """Ubuntu 24.04 and many containers do; a traceback would help nobody."""
    command = ["unshare", "-Ur", "sh", "-c", FORBIDDEN, sys.executable]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert done.returncode == 1
    assert "does not let us make user namespaces (max_user_namespaces = 0)" in done.stderr
    assert "Try: sudo sysctl -w user.max_user_namespaces" in done.stderr


def test_machine_boots_where_root_is_mapped_alone(tmp_path):
    """So it is in many rootless containers."""
    program = "from local.machine import Machines; Machines.preflight()"

    done = subprocess.run(
        ["unshare", "-Ur", sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr


def test_preflight_passes_when_the_host_allows_user_namespaces():
    """It must be known before anything starts."""
    Machines.preflight()
