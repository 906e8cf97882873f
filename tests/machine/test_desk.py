"""The desk's commands for a VM, each on a machine with a real sshd."""

import json
import os
import subprocess
import sys

import pytest

from local.exports import write_wrappers
from local.machine.openssh import OpenSsh
from local.tools_found import openssh_root
from tests.machine.conftest import PROJECT
from tests.machine.reached import booted

SCRIPT = "#!/bin/sh\necho ready\necho only-in-the-journal | cat >&2\nsleep 600\n"


class Desk:
    """A checkout and a home, from which `mayfly` reaches the machine."""

    def __init__(self, cloud, folder):
        self.cloud, self.folder = cloud, folder
        self.home = folder / "home"
        self.home.mkdir()
        (folder / "Pulumi.yaml").write_text("name: mayfly\nruntime: python\n")
        write_wrappers(cloud.directory, plugins=False)
        api = json.loads((cloud.directory / "local.json").read_text())["urls"]["api"]
        root = openssh_root()
        assert root is not None
        self.ssh = OpenSsh(root)
        self.environment = {
            **os.environ,
            **self.ssh.environment(),
            "PATH": f"{cloud.directory / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "GOOGLE_PROJECT": PROJECT,
            "GOOGLE_COMPUTE_CUSTOM_ENDPOINT": f"{api}/compute/v1/",
        }

    def run(self, *words, stdin=""):
        return self.call(sys.executable, "-m", "mayfly.cli", *words, stdin=stdin)

    def call(self, *words, stdin=""):
        return subprocess.run(
            [str(word) for word in words],
            env=self.environment,
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    with booted(tmp_path_factory.mktemp("desk"), SCRIPT, "startup-script: ready") as cloud:
        yield Desk(cloud, tmp_path_factory.mktemp("checkout"))


def test_exec_passes_words_input_and_status(desk):
    """All three, over the real ssh: what was typed is what runs."""
    script = 'cat; printf "%s|" "$@"; exit 42'

    done = desk.run("exec", "test", "--", "bash", "-c", script, "x", "a  b", "$HOME;'", stdin="in")

    assert done.stdout == "ina  b|$HOME;'|"
    assert done.returncode == 42


def test_ssh_is_a_login_that_reads_its_commands(desk):
    """Also without a terminal, as in a script."""
    done = desk.run("ssh", stdin="id -un\nexit 5\n")

    assert "dev_example_com" in done.stdout
    assert done.returncode == 5


def test_cp_brings_a_folder_there_and_back(desk):
    """Results are folders."""
    (desk.folder / "results/deep").mkdir(parents=True)
    (desk.folder / "results/deep/a b").write_text("content")

    assert desk.run("cp", "results", "test:").returncode == 0
    assert desk.run("cp", ":results", "back").returncode == 0

    assert (desk.folder / "back/deep/a b").read_text() == "content"


def test_cp_goes_on_where_it_broke_over_the_real_line(desk):
    """There and back, with half a file at either end."""
    (desk.folder / "much").mkdir()
    whole = b"0123456789abcdef" * 64000
    (desk.folder / "much/data").write_bytes(whole)
    begun = 'mkdir -p "$HOME/much"; head -c 500000 > "$HOME/much/data"'
    desk.run("exec", "test", "--", "sh", "-c", begun, stdin=whole.decode())

    done = desk.run("cp", "--resume", "much", "test:much")
    assert done.returncode == 0, done.stderr

    (desk.folder / "again").mkdir()
    (desk.folder / "again/data").write_bytes(whole[:700_000])
    done = desk.run("cp", "--resume", "test:much", "again")
    assert done.returncode == 0, done.stderr
    assert (desk.folder / "again/data").read_bytes() == whole

    done = desk.run("cp", "--resume", "test:nowhere", "again")
    assert done.returncode == 1
    assert "nowhere: there is no such file or folder" in done.stderr
    assert "Not everything was copied" in done.stderr


def test_cp_exits_1_with_scps_words_when_the_place_is_not_writable(desk):
    """A login is not root."""
    (desk.folder / "file").touch()

    done = desk.run("cp", "file", "test:/etc/file")

    assert done.returncode == 1
    assert "Permission denied" in done.stderr
    assert "Not everything was copied" in done.stderr


def test_journal_is_shown_when_the_caller_may_become_root(desk):
    """What no console has, for those whom the project trusts with it."""
    done = desk.run("logs", "test", "--journal", "--since", "1h")
    assert done.returncode == 0
    assert "only-in-the-journal" in done.stdout

    desk.cloud.rights.remove("compute.instances.osAdminLogin")
    try:
        done = desk.run("logs", "test", "--journal")
    finally:
        desk.cloud.rights.append("compute.instances.osAdminLogin")

    assert done.returncode == 1
    assert "roles/compute.osAdminLogin" in done.stderr


def test_ssh_config_entry_is_enough_for_plain_ssh(desk):
    """VS Code Remote starts ssh by itself and knows the Host's name only."""
    done = desk.run("ssh-config", "test", "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "mayfly-test\n"

    config = desk.home / ".ssh/config"
    assert config.read_text() == "Include ~/.ssh/mayfly/*.conf\n"
    entry = desk.home / ".ssh/mayfly/test.conf"  # ssh itself asks passwd for the home, not HOME
    done = desk.call(desk.ssh.client("ssh"), "-F", entry, "mayfly-test", "id -un; exit 9")

    assert done.stdout == "dev_example_com\n", done.stderr
    assert done.returncode == 9
    assert desk.run("ssh-config", "test", "--remove").returncode == 0
    assert not entry.exists()
