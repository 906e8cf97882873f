"""What runs in a machine reaches nothing of the host; each check has a twin that sees a leak."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from local.machine import rootfs
from tests import waiting
from tests.running import running

PYTHON = rootfs.PYTHON
KERNEL = "import sys; sys.path.insert(0, '/.machine/lib'); import kernel; "
LIMIT_S = 60


def finished(machine):
    """The console once the startup script has ended."""
    return machine.console("Finished running startup scripts", LIMIT_S)


def test_machine_cannot_write_what_it_is_shown_of_the_host(boot, tmp_path):
    """One slip as root in a script must not change the computer that it is tested on."""
    shown = tmp_path / "shown"
    shown.mkdir()
    shown.chmod(0o777)
    script = f"#!/bin/bash\ntouch {shown}/slip; echo wrote-$?\n"

    machine = boot(script, image={"trees": [shown]})
    assert "wrote-1" in finished(machine)
    assert not (shown / "slip").exists()

    leak(machine, shown)  # the twin: the same script, where the mount is left writable
    assert (shown / "slip").exists()


def leak(machine, shown):
    """Boot the same machine again with `shown` writable."""
    machine.machines.stop(machine.id)
    path = machine.machines.directory / machine.id / "spec.json"
    spec = json.loads(path.read_text())
    for mount in spec["mounts"]:
        mount["read_only"] = mount["read_only"] and mount["source"] != str(shown)
    path.write_text(json.dumps(spec))
    machine.machines.boot(machine.machines._instances[machine.id])
    wait_until((shown / "slip").exists)


ATTEMPTS = [
    "kernel.mount('', '/usr', flags=32 | 4096)",  # remount without read-only
    "kernel.unmount('/usr')",
    "kernel.unmount('/etc/ssl', 2)",
    "open('/proc/sys/kernel/panic', 'w').write('1')",
    "open('/proc/sysrq-trigger', 'w').write('b')",
    "open('/usr/slip', 'w')",
    "__import__('os').mknod('/disk', 0o60600, __import__('os').makedev(254, 0))",
    "__import__('os').chroot('/proc/1/root/../../..'); open('/usr/slip', 'w')",
]
ALLOWED = "kernel.mount('tmpfs', '/mnt', 'tmpfs')"  # the twin: what root in there may do


def test_machine_root_cannot_lift_what_holds_it(run):
    """Root in there has every capability, over its own namespaces only."""
    found = run([f'{PYTHON} -c "{KERNEL}{code}"' for code in [*ATTEMPTS, ALLOWED]])

    assert [item.exit for item in found] == [1] * len(ATTEMPTS) + [0]
    assert all("Error" in item.text for item in found[:-1])
    assert not Path("/usr/slip").exists()


def test_machine_can_signal_none_of_the_hosts_processes(boot):
    """`pkill` in a startup script must find nothing but its own machine."""
    with running(["sleep", "600"], start_new_session=True) as victim:
        check = f"kill -9 {victim.pid}; pkill -9 sleep; kill -9 -1"
        machine = boot(f"#!/bin/bash\nps ax | grep -c 'sleep 6[0]'; ({check})\necho over\n")
        wait_until(lambda: "startup-script: 0\n" in machine.machines.serial(machine.id))
        time_for_signals(machine)

        assert victim.poll() is None
        subprocess.run(["bash", "-c", f"kill -9 {victim.pid}"], check=True)  # the twin: outside
        assert victim.wait(LIMIT_S) == -signal.SIGKILL


def time_for_signals(machine):
    """The script has sent its signals when it has ended, by them or by itself."""
    wait_until(lambda: "Finished running" in machine.machines.serial(machine.id))


def test_machine_has_no_way_out_but_the_ports_it_is_given(boot):
    """A test that reaches the internet, or the host's services, is not a local one."""
    with listening() as secret, listening() as granted:
        dial = "import socket; socket.create_connection(('{}', {}), 3)"
        targets = [("192.0.2.1", 80), ("127.0.0.1", secret), ("127.0.0.1", granted)]
        lines = [
            f'{PYTHON} -c "{dial.format(*target)}" 2>/dev/null; echo way-$?' for target in targets
        ]
        machine = boot("#!/bin/bash\n" + "\n".join(lines) + "\n", image={"ports": [granted]})
        console = finished(machine)

    found = [line.rpartition("way-")[2] for line in console.splitlines() if "way-" in line]
    assert found == ["1", "1", "0"]  # the last is the twin: a granted port is reached


@contextlib.contextmanager
def listening():
    """A port of the host where somebody answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("command", ["poweroff", "kernel"])
def test_poweroff_ends_only_the_machine(boot, command):
    """Even the system call itself, as root, must stop at the machine's own edge."""
    call = f'{PYTHON} -c "{KERNEL}kernel.reboot(kernel.RB_POWER_OFF)"'
    machine = boot(f"#!/bin/bash\n{call if command == 'kernel' else command}\nsleep 60\n")

    wait_until(lambda: machine.off == [machine.id])

    assert not machine.machines.running(machine.id)


def test_destroyed_machine_leaves_no_process_and_no_mount(boot):
    """What is left would hold ports, memory and, at Google, money."""
    before, others = Path("/proc/self/mountinfo").read_text(), descendants(os.getpid())
    machine = boot("#!/bin/bash\nsleep 300 &\nsetsid sleep 300 &\necho really-up\nsleep 300\n")
    machine.console("really-up")
    family = descendants(os.getpid()) - others
    assert len(family) >= 5

    machine.machines.destroy(machine.id)

    wait_until(lambda: not alive(family))
    assert Path("/proc/self/mountinfo").read_text() == before


def test_machine_dies_when_its_parent_is_killed(tmp_path):
    """A crashed demo must leave nothing behind."""
    program = (
        "import sys, time; from pathlib import Path; from local.machine import Image, Machines\n"
        "from local.machine.machines import probe_instance\n"
        "machines = Machines(Path(sys.argv[1]), Image(project_id='p', project_number='1'), {})\n"
        "instance = probe_instance()\n"
        "instance['metadata']['items'][0]['value'] = '#!/bin/sh\\necho really-up\\nsleep 300\\n'\n"
        "machines.boot(instance); machines.wait_for_serial('1', 'really-up', 60)\n"
        "print('up', flush=True); time.sleep(300)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "m")]
    with running(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == "up\n"
        family = descendants(parent.pid)
        parent.kill()

    assert len(family) >= 4
    wait_until(lambda: not alive(family))


def descendants(pid):
    """All processes below `pid`."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parents[int(entry.name)] = int(
                    (entry / "stat").read_text().rpartition(")")[2].split()[1]
                )
    found, todo = set(), {pid}
    while todo:
        todo = {child for child, parent in parents.items() if parent in todo} - found
        found |= todo
    return found


def alive(pids):
    """Those that are still there and no zombies."""
    left = set()
    for pid in pids:
        with contextlib.suppress(OSError, IndexError):
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z":
                left.add(pid)
    return left


def wait_until(condition):
    waiting.wait_until(condition, LIMIT_S)
