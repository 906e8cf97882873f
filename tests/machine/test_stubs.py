"""Stand-ins refuse what the real commands refuse, in their words."""

import pytest

from tests.machine.conftest import EXTERNAL

GPU_CASES = [
    ("nvidia-smi --query-gpu=name,driver_version --format=csv,noheader", 0, "580.159.04"),
    ("nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits | head -n 1", 0, "81559"),
    ("nvidia-smi -L | wc -l", 0, "8"),
    ("nvidia-smi --query-gpu=colour --format=csv", 2, 'Field "colour" is not a valid field'),
    ("nvidia-smi --frobnicate", 1, "Invalid combination of input arguments"),
    ("modinfo -F version nvidia", 0, "580.159.04"),
    ("modinfo -F version nope", 1, "Module nope not found"),
    ("modprobe nope", 1, "FATAL: Module nope not found"),
    ("modprobe --frobnicate nvidia", 1, "unrecognized option '--frobnicate'"),
    ("modprobe -r nvidia_uvm", 1, "Module nvidia_uvm is in use"),
    ("rmmod nope", 1, "Module nope is not currently loaded"),
    ("mokutil --sb-state", 0, "SecureBoot disabled"),
    ("mokutil --enroll", 1, "unrecognized option"),
    ("mount -t ext4 /dev/sdb /mnt", 32, "special device /dev/sdb does not exist"),
    ("mount -t tmpfs x /nowhere", 32, "mount point does not exist"),
    ("mount -t tmpfs -o frob=1 x /mnt", 32, "bad option"),
    ("mount -t tmpfs -o size=8m x /mnt && df -k --output=size /mnt | tail -n 1", 0, "8192"),
    ("umount /usr", 32, "must be superuser"),
    ("umount /opt", 32, "not mounted"),
    ("systemctl start nope", 5, "Unit nope.service not found"),
    ("systemctl frobnicate x", 1, "Unknown command verb frobnicate"),
    ("systemctl start --frob x", 1, "unrecognized option '--frob'"),
    ("systemctl is-active nvidia-fabricmanager", 0, "active"),
    ("cat /sys/module/nvidia/version", 0, "580.159.04"),
    ("systemctl show-environment", 0, "PATH=/.machine/bin:"),
    ("systemctl show-environment x", 1, "Too many arguments"),
    ("systemctl set-environment 1=x", 1, "Invalid environment assignments"),
    ("systemctl unset-environment a-b", 1, "Invalid environment variable names"),
    ("systemctl frob-environment", 1, "Unknown command verb frob-environment"),
    ("journalctl --frob", 1, "unrecognized option '--frob'"),
    ("shutdown -h +5", 1, "only knows `now`"),
    ("dpkg-query -W -f='${Package} ${Version}\\n' 'nvidia-utils-*'", 0, "580.159.04-0ubuntu0"),
    ("dpkg-query -W nope", 1, "no packages found matching nope"),
    ("apt-get update", 0, "Could not connect to archive.ubuntu.com"),
    ("apt-get install -y nvidia-utils-580-server-nope", 100, "Unable to locate package"),
    ("apt-get --frob install x", 100, "Command line option '--frob'"),
    ("apt-get frob", 100, "Invalid operation frob"),
    ("ldconfig -p | head -n 1", 0, "libs found in cache"),
    ("uv venv /opt/e && /opt/e/bin/python -c 'import sys; print(sys.prefix)'", 0, "/opt/e"),
    ("uv venv --managed-python /opt/m", 2, "Failed to fetch"),
    ("uv frob", 2, "unrecognized subcommand"),
    ("uv venv --frob /opt/f", 2, "unexpected argument '--frob'"),
]


@pytest.fixture(scope="module")
def gpu_outcomes(tmp_path_factory):
    """All GPU cases in one boot."""
    from local.machine import Image, Machines
    from tests.machine import conftest, outcome

    commands = [case[0] for case in GPU_CASES]
    directory = tmp_path_factory.mktemp("gpu")
    image = Image(project_id=conftest.PROJECT, project_number=conftest.NUMBER)
    machines = Machines(directory, image, {})
    resource = conftest.instance(outcome.script(commands))
    machines.boot(resource)
    booted = conftest.Booted(machines, resource["id"])
    yield dict(zip(commands, booted.outcomes(commands), strict=True)), machines, resource["id"]
    machines.close()


@pytest.mark.parametrize(("command", "status", "text"), GPU_CASES)
def test_stand_in_answers_as_the_real_command_when_called(gpu_outcomes, command, status, text):
    """A script that works here must not fail on a VM, nor the other way round."""
    found = gpu_outcomes[0][command]

    assert found.exit == status, found.text
    assert text in found.text


def test_every_stand_in_call_is_recorded(gpu_outcomes):
    """The demo shows the driver's upgrade and GIB's removal from these records."""
    _, machines, identifier = gpu_outcomes
    commands = machines.commands(identifier)

    assert {"argv", "exit", "seconds", "t"} == set(commands[0])
    assert ["umount", "/usr"] in [entry["argv"] for entry in commands]
    assert any(entry["argv"][0] == "apt-get" and entry["exit"] == 100 for entry in commands)


def test_cpu_machine_has_no_trace_of_a_driver(run):
    """A seeding VM that found a GPU would hide a mistake in the layer's machine type."""
    commands = ["command -v nvidia-smi", "modinfo nvidia", "lsmod"]

    found = run(commands, machineType="zones/z/machineTypes/n2-standard-8")

    assert [item.exit for item in found] == [1, 1, 0]
    assert "nvidia" not in found[2].text


def test_nvidia_smi_fails_as_the_real_one_when_there_is_no_driver(run):
    """A bare image has neither the tool nor the module."""
    found = run(["nvidia-smi", "modprobe nvidia"], settings={"driver": "none"})

    assert [item.exit for item in found] == [127, 1]


UPGRADE = [
    "nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1",
    "systemctl stop nvidia-fabricmanager nvidia-persistenced",
    "apt-get install -y --no-install-recommends {debs}/*.deb",
    "nvidia-smi",
    "modprobe -r nvidia_uvm nvidia_drm nvidia_modeset nvidia && modprobe nvidia",
    "nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1",
    "systemctl start nvidia-fabricmanager && systemctl is-active nvidia-fabricmanager",
    "dpkg-query -W 'nvidia-fabricmanager*'",
]


@pytest.fixture
def debs(tmp_path):
    """The packages of branch 580 as the seeding VM fetches them."""
    from local.machine.guest import archive

    folder = tmp_path / "debs"
    folder.mkdir()
    for package in [*archive.drivers().values(), archive.world("")["dkms"]]:
        if "570" not in package.name:
            archive.build(
                archive.Package(package.name, package.version, "amd64", package.needs),
                folder / package.file_name,
            )
    return folder


def test_driver_upgrade_goes_from_570_to_580_when_the_packages_are_installed(run, debs):
    """It is what the first session of the demo does."""
    commands = [line.format(debs=debs) for line in UPGRADE]
    settings = {"driver": "570.195.03"}

    old, _, install, mixed, reload, new, fabric, package = run(
        commands, settings=settings, image={"trees": [debs]}
    )

    assert (old.text, new.text) == ("570.195.03", "580.159.04")
    assert install.exit == 0
    assert "Driver/library version mismatch" in mixed.text  # between install and reload
    assert (mixed.exit, reload.exit, fabric.text) == (18, 0, "active")
    assert package.text.split() == ["nvidia-fabricmanager-580", "580.159.04-0ubuntu0.22.04.1"]


def test_upgraded_module_is_refused_when_secure_boot_is_on(run, debs):
    """Modules built on the machine are signed by nobody."""
    commands = [
        "systemctl stop nvidia-fabricmanager nvidia-persistenced",
        f"apt-get install -y {debs}/*.deb",
        "modprobe -r nvidia_uvm nvidia_drm nvidia_modeset nvidia; modprobe nvidia",
        "mokutil --sb-state",
    ]

    found = run(
        commands,
        settings={"driver": "570.195.03"},
        image={"trees": [debs]},
        shieldedInstanceConfig={"enableSecureBoot": True},
    )

    assert "Key was rejected by service" in found[2].text
    assert found[3].text == "SecureBoot enabled"


def test_package_stays_half_configured_until_its_module_is_built(run, debs):
    """What an installation that failed leaves behind is what the next one has to cope with."""
    state = "dpkg-query -W -f='${db:Status-Status}' nvidia-dkms-580-server-open"
    commands = [
        f"apt-get install -y {debs}/*.deb",
        state,
        "modinfo -F version nvidia",
        "dpkg --configure -a",
        state,
        "modinfo -F version nvidia",
    ]

    failed, half, none, mended, whole, module = run(
        commands, settings={"driver": "570.195.03", "apt_fails": "1"}, image={"trees": [debs]}
    )

    assert (failed.exit, mended.exit) == (100, 0)
    assert "post-installation script subprocess returned error exit status 10" in failed.text
    assert "E: Sub-process /usr/bin/dpkg returned an error code (1)" in failed.text
    assert (half.text, whole.text) == ("half-configured", "installed")
    assert (none.exit, module.text) == (1, "580.159.04")


def test_apt_wants_dpkg_to_finish_what_was_interrupted(run, debs):
    """apt-get refuses every installation until it is done, in words that name the command."""
    commands = [f"apt-get install -y {debs}/*.deb", "dpkg --configure -a", "apt-get install -y jq"]

    refused, done, _ = run(commands, settings={"dpkg_interrupted": "true"}, image={"trees": [debs]})

    assert (refused.exit, done.exit) == (100, 0)
    assert "you must manually run 'dpkg --configure -a'" in refused.text


def test_fabric_manager_does_not_start_beside_another_driver(run):
    """The real one ends at once; a sandbox where it stays would hide error 802."""
    commands = ["systemctl start nvidia-fabricmanager", "journalctl -u nvidia-fabricmanager -o cat"]

    start, journal = run(commands, settings={"fabricmanager": "580.95.05"})

    assert start.exit == 1
    assert "version 580.95.05 don't match with driver version 580.159.04" in journal.text


def test_apt_waits_for_the_lock_only_when_it_is_told_to(run, debs):
    """The image's own upgrades hold it in the first minutes."""
    commands = [
        f"apt-get install -y {debs}/*.deb",
        f"apt-get -o DPkg::Lock::Timeout=60 install -y {debs}/*.deb",
    ]

    impatient, patient = run(commands, settings={"apt_lock_s": "4"}, image={"trees": [debs]})

    assert (impatient.exit, patient.exit) == (100, 0)
    assert "Could not get lock /var/lib/dpkg/lock-frontend" in impatient.text


def test_broken_deb_is_refused_when_installed(run, debs):
    """Half a download must not become half a driver."""
    first = sorted(debs.iterdir())[0]
    first.write_bytes(first.read_bytes()[:5000])

    (found,) = run([f"apt-get install -y {debs}/*.deb"], image={"trees": [debs]})

    assert found.exit == 100
    assert "unexpected end of file" in found.text


GIB_PLACES = [
    "test -d /usr/local/gib",
    "ldconfig && ldconfig -p | grep /usr/local/gib/lib64",
    "grep gib /etc/ld.so.conf.d/*.conf",
    "grep NCCL_NET=gIB /etc/environment",
    "grep NCCL_NET=gIB /etc/nccl.conf",
    "grep -l gib /etc/profile.d/*.sh",
]


@pytest.mark.parametrize(("gib", "status"), [("true", 0), ("false", 1)])
def test_machine_is_born_with_gib_in_every_place_or_in_none(run, gib, status):
    """Each place left behind stops NCCL on machines without RDMA."""
    found = run(GIB_PLACES, settings={"gib": gib})

    assert {bool(item.exit) for item in found} == {bool(status)}


LOCK = "huggingface_hub==1.0.0 --hash=sha256:" + "0" * 64
SEED = [
    "uv venv --quiet --clear /opt/seed",
    f"echo '{LOCK}' >/tmp/good; "
    "uv pip install --python /opt/seed/bin/python --require-hashes -r /tmp/good",
    "/opt/seed/bin/python -c 'import huggingface_hub'",
    "echo 'huggingface_hub==1.0.0' >/tmp/bad; "
    "uv pip install --python /opt/seed/bin/python --require-hashes -r /tmp/bad",
    "uv pip install --python /opt/seed/bin/python -r /tmp/good",
    "apt-get update && cd /tmp && mkdir -p a/partial && apt-get -o Dir::Cache::archives=/tmp/a "
    "--download-only -y install nvidia-utils-580-server && ls a",
]


def test_seeding_machine_installs_only_what_a_lock_pins_by_hash(run):
    """An unpinned package would run with the seeder's rights."""
    found = run(SEED, machineType="zones/z/machineTypes/n2-standard-8", networkInterfaces=EXTERNAL)

    assert [item.exit for item in found] == [0, 0, 0, 1, 2, 0]
    assert "all requirements must have a hash" in found[3].text
    assert "nvidia-utils-580-server_580.159.04-0ubuntu0.22.04.1_amd64.deb" in found[5].text
