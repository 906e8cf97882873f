"""The machine's SSH server is Debian's own: what a login is there, it is on a VM."""

import contextlib
import os
import pty
import signal
import subprocess
import time

import pytest

from tests.machine.reached import PLACE, booted

SCRIPT = (
    "#!/bin/sh\nprintf secret >/run/roots-own; chmod 600 /run/roots-own\necho ready\nsleep 600\n"
)
AT = ("compute", "ssh", "mayfly-test", *PLACE, "--tunnel-through-iap")
LIMIT_S = 60


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    with booted(tmp_path_factory.mktemp("ssh"), SCRIPT, "startup-script: ready") as found:
        yield found


def run(cloud, command, **more):
    return cloud.run(*AT, "--command", command, **more)


@contextlib.contextmanager
def rights(cloud, *held):
    """The caller holds these only, meanwhile."""
    before = list(cloud.rights)
    cloud.rights[:] = held
    try:
        yield
    finally:
        cloud.rights[:] = before


def test_login_is_an_os_login_user_when_the_key_comes_from_gcloud(cloud):
    """Not root, as on a VM: a command that needs root must say so with sudo."""
    status, out, _ = run(cloud, "id -un; pwd; id -u")

    assert status == 0
    name, home, number = out.split()
    assert name == "dev_example_com"
    assert home == "/home/dev_example_com"
    assert int(number) != 0


def test_command_passes_its_status_and_its_input_through(cloud):
    """Scripts decide by both."""
    status, out, _ = run(cloud, "cat; exit 7", stdin="hello")

    assert (status, out) == (7, "hello")


def test_sudo_needs_the_right_to_be_admin(cloud):
    """roles/compute.osLogin, which members are given, is no way to root."""
    assert run(cloud, "sudo -n id -un; sudo -n cat /run/roots-own")[1] == "root\nsecret"

    with rights(cloud, "iap.tunnelInstances.accessViaIAP", "compute.instances.osLogin"):
        status, out, err = run(cloud, "sudo -n id -un")

    assert (status, out) == (1, "")
    assert "sudo: a password is required" in err


def test_login_is_refused_when_the_caller_has_no_right_to_it(cloud):
    """sshd asks OS Login, not the client."""
    with rights(cloud, "iap.tunnelInstances.accessViaIAP"):
        status, _, err = run(cloud, "id")

    assert status == 255
    assert "Permission denied (publickey)" in err


def test_iap_refuses_when_the_caller_may_not_tunnel(cloud):
    """Another right than the login's, and the one that is forgotten most often."""
    with rights(cloud, "compute.instances.osLogin"):
        status, _, err = run(cloud, "id")

    assert status == 255
    assert "4033: 'not authorized'" in err


def test_files_travel_both_ways(cloud, tmp_path):
    """By sftp, which scp speaks unless it is told -O; by scp's own protocol then."""
    (tmp_path / "there/deep").mkdir(parents=True)
    (tmp_path / "there/deep/file").write_text("content")
    scp = ("compute", "scp", *PLACE, "--tunnel-through-iap", "--recurse")

    assert cloud.run(*scp, str(tmp_path / "there"), "mayfly-test:")[0] == 0
    assert cloud.run(*scp, "mayfly-test:there", str(tmp_path / "back"))[0] == 0
    status, _, err = cloud.run(*scp, "--scp-flag=-O", "mayfly-test:th*", str(tmp_path / "old"))

    assert status == 0, err
    assert (tmp_path / "back/deep/file").read_text() == "content"
    assert (tmp_path / "old/deep/file").read_text() == "content"


def until(what, done):
    deadline = time.monotonic() + LIMIT_S
    while not done():
        assert time.monotonic() < deadline, f"waited {LIMIT_S} s for {what}"
        time.sleep(0.05)


@contextlib.contextmanager
def terminal(cloud):
    """A login with a terminal; its keyboard."""
    keyboard, screen = pty.openpty()
    process = subprocess.Popen(
        cloud.command(*AT),
        env=cloud.environment,
        stdin=screen,
        stdout=screen,
        stderr=screen,
        start_new_session=True,
    )
    os.close(screen)
    try:
        yield keyboard
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(LIMIT_S)
        os.close(keyboard)


def test_terminal_moves_its_access_time_when_keys_are_pressed(cloud):
    """By that the watchdog knows a person at work from a login that was left open."""

    def looked():
        return run(cloud, "stat -c %X /dev/pts/[0-9]* 2>/dev/null")[1].strip()

    with terminal(cloud) as keyboard:
        until("the login", looked)
        run(cloud, "sudo -n touch -a -d @1000 /dev/pts/[0-9]*")  # Linux moves it every 8 s at most
        assert looked() == "1000"
        os.write(keyboard, b"true\n")
        until("the key", lambda: looked() != "1000")

    until("the logout", lambda: not looked())


def test_command_descends_from_sshd_without_a_terminal(cloud):
    """By that the watchdog counts an exec or an scp as work, and a forwarded port not."""
    _, out, _ = run(cloud, "ps -o tty= -p $$; ps -o comm= -p $PPID; sleep 0")

    assert out.split() == ["?", "sshd"]
