"""The driver: "an hour lost on drivers" is one of the two things our users fear."""

import pytest

from tests.fake_google import manifest_of

URI = "gs://w/drivers/580"
PACKAGES = {
    "nvidia-utils-580-server_580.159.04-0ubuntu1_amd64.deb": b"utils",
    "nvidia-fabricmanager-580_580.159.04-0ubuntu1_amd64.deb": b"fabric",
}


@pytest.fixture
def born(machine):
    """Driver 570, whose module can be exchanged; `version` is what nvidia-smi says."""
    version = machine.write("version", "570.158.01")
    machine.stub("nvidia-smi", body=f"cat {version}")
    machine.stub("modinfo", exit_status=1)
    machine.stub("mokutil", body="echo SecureBoot disabled")
    machine.stub("systemctl")
    machine.stub("modprobe")
    machine.stub("dpkg-query", body="echo 580.159.04-0ubuntu1")
    machine.stub("apt-get", body=f"echo 580.159.04 >{version}")
    for name, data in PACKAGES.items():
        machine.google.put(f"{URI}/{name}", data)
    machine.google.put(f"{URI}/manifest.json", manifest_of(PACKAGES))
    return machine


def test_driver_stage_upgrades_in_place_when_the_driver_is_too_old(born, run_stage):
    """570 cannot read the PTX of the H100 kernels; a reboot would cost minutes more."""
    result = run_stage("10-driver.sh")

    assert result.returncode == 0, result.stderr
    assert "driver 580.159.04, without a reboot" in result.stderr
    (install,) = born.calls("apt-get")
    assert install.count(".deb") == 2
    assert "--no-install-recommends" in install
    assert born.calls("modprobe") == [
        "modprobe -r nvidia_uvm nvidia_drm nvidia_modeset nvidia",
        "modprobe nvidia",
        "modprobe nvidia_uvm",
    ]
    assert "systemctl restart nvidia-fabricmanager.service" in born.calls("systemctl")


def test_driver_stage_touches_nothing_when_the_driver_is_new_enough(born, run_stage):
    """A working driver is the one thing on the machine not to be improved."""
    born.write("version", "580.159.04")

    result = run_stage("10-driver.sh")

    assert result.returncode == 0
    assert "driver 580.159.04 is left alone (needed: 580)" in result.stderr
    assert born.calls("apt-get", "modprobe", "systemctl", "gsutil") == []


def test_driver_stage_touches_nothing_when_the_engine_takes_any_driver(born, run_stage):
    """An empty branch in the profile means that the image's own driver will do."""
    assert run_stage("10-driver.sh", MAYFLY_DRIVER_BRANCH="").returncode == 0
    assert born.calls("apt-get") == []


@pytest.mark.parametrize(("engine", "upgraded"), [("0.19.1", False), ("0.24.0", True)])
def test_driver_stage_upgrades_an_a100_only_when_the_wheels_are_cuda_13(
    born, run_stage, engine, upgraded
):
    """A100 runs Marlin's own machine code: before CUDA 13 the upgrade buys nothing."""
    result = run_stage("10-driver.sh", MAYFLY_MACHINE="a2-ultragpu-8g", MAYFLY_ENGINE=engine)

    assert result.returncode == 0, result.stderr
    assert bool(born.calls("apt-get")) is upgraded


def test_driver_stage_asks_for_a_reboot_when_the_module_is_in_use(born, run_stage, stub):
    """rmmod under a running service is fragile; the startup script goes on after a reboot."""
    stub("modprobe", exit_status=1)

    result = run_stage("10-driver.sh")

    assert result.returncode == 75
    assert born.read("var/lib/mayfly/driver-attempts") == "1\n"


def test_driver_stage_starts_the_services_when_it_resumes_after_the_reboot(born, run_stage):
    """The fabric manager was stopped for the upgrade; without it CUDA says 802."""
    born.write("version", "580.159.04")
    born.write("var/lib/mayfly/driver-attempts", "1\n")

    assert run_stage("10-driver.sh").returncode == 0
    assert "systemctl restart nvidia-fabricmanager.service" in born.calls("systemctl")
    assert born.calls("apt-get") == []


def test_driver_stage_gives_up_when_two_upgrades_did_not_help(born, run_stage):
    """A machine that reboots for ever is the most expensive way to serve nothing."""
    born.write("var/lib/mayfly/driver-attempts", "2\n")

    result = run_stage("10-driver.sh")

    assert result.returncode == 1
    assert "still too old after 2 upgrades, 580 is needed" in born.why("10-driver")
    assert born.calls("apt-get") == []


def test_driver_stage_says_so_when_secure_boot_forbids_it(born, run_stage, stub):
    """The kernel would only say "key was rejected by service", half an hour later."""
    stub("mokutil", body="echo SecureBoot enabled")

    result = run_stage("10-driver.sh")

    assert result.returncode == 1
    assert "Secure Boot forbids the upgraded one" in born.why("10-driver")
    assert born.calls("apt-get") == []


def test_driver_stage_names_the_command_when_no_packages_were_seeded(born, run_stage):
    """The node has no way out: it cannot fetch them itself."""
    (born.google.buckets / "w/drivers/580/manifest.json").unlink()

    result = run_stage("10-driver.sh")

    assert result.returncode == 1
    assert f"there are no driver packages at {URI}; run: mayfly seed" in born.why("10-driver")


def test_driver_stage_refuses_a_package_when_its_content_is_not_the_manifests(born, run_stage):
    """It would run as root."""
    name = next(iter(PACKAGES))
    born.google.put(f"{URI}/{name}", b"evil!")

    result = run_stage("10-driver.sh")

    assert result.returncode == 1
    assert "is not what its manifest says" in born.why("10-driver")
    assert born.calls("apt-get") == []


def test_driver_stage_fails_when_the_fabric_manager_is_of_another_version(born, run_stage, stub):
    """Equal to the last digit, or every CUDA call fails with 802."""
    stub("dpkg-query", body="echo 580.95.05-0ubuntu1")

    result = run_stage("10-driver.sh")

    assert result.returncode == 1
    assert "driver 580.159.04 and fabric manager 580.95.05 differ" in born.why("10-driver")


def test_driver_stage_reads_the_module_when_nvidia_smi_cannot_talk_to_it(born, run_stage, stub):
    """A driver that does not load yet is not the same as none."""
    stub("nvidia-smi", body="echo NVIDIA-SMI has failed", exit_status=9)
    stub("modinfo", body="echo 580.159.04")

    result = run_stage("10-driver.sh")

    assert "driver 580.159.04 is left alone" in result.stderr


def test_driver_stage_points_to_the_log_when_apt_fails(born, run_stage, stub):
    """apt's own reason is long; the user needs to know where it is."""
    stub("apt-get", exit_status=100)

    assert run_stage("10-driver.sh").returncode == 1
    assert "apt-get could not install the driver packages; see" in born.why("10-driver")


@pytest.fixture
def gib(machine):
    """gIB in every form in which images carry it."""
    machine.write("usr/local/gib/lib64/libnccl-net.so", "elf")
    machine.write("etc/ld.so.conf.d/gib.conf", "/usr/local/gib/lib64\n")
    machine.write("etc/ld.so.conf.d/nccl.conf", "/usr/local/gib/lib64\n/usr/local/cuda/lib64\n")
    machine.write("etc/profile.d/nccl-gib.sh", "export NCCL_NET=gIB\n")
    machine.write("etc/profile.d/other.sh", "export EDITOR=vi\nexport NCCL_NET=gIB\n")
    machine.write("etc/environment", 'PATH="/usr/bin"\nNCCL_NET=gIB\nNCCL_IB_TC=52\n')
    machine.write("etc/nccl.conf", "NCCL_NET=gIB\nNCCL_TUNER_CONFIG_PATH=/usr/local/gib/x\n")
    machine.stub("ldconfig", body='if [[ "${1-}" == -p ]]; then echo libc.so.6; fi')
    machine.stub("systemctl", body='if [[ "$1" == show-environment ]]; then echo LANG=C; fi')
    return machine


def test_gib_stage_leaves_no_trace_when_it_is_there_in_every_form(gib, run_stage):
    """NCCL stops with "network gIB not found" for any one of them."""
    result = run_stage("20-gib.sh")

    assert result.returncode == 0, result.stderr
    assert not (gib.root / "usr/local/gib").exists()
    assert sorted(p.name for p in (gib.root / "etc/ld.so.conf.d").iterdir()) == ["nccl.conf"]
    assert gib.read("etc/ld.so.conf.d/nccl.conf") == "/usr/local/cuda/lib64\n"
    assert gib.read("etc/profile.d/other.sh") == "export EDITOR=vi\n"
    assert gib.read("etc/environment") == 'PATH="/usr/bin"\n'
    assert gib.read("etc/nccl.conf") == ""
    assert gib.calls("ldconfig") == ["ldconfig", "ldconfig -p"]


def test_gib_stage_changes_nothing_when_there_is_none(machine, run_stage, stub):
    """A clean image shows neither upgrade nor removal."""
    stub("ldconfig", body="echo libc.so.6")
    stub("systemctl", body="echo LANG=C")
    machine.write("etc/environment", 'PATH="/usr/bin"\n')

    result = run_stage("20-gib.sh")

    assert result.returncode == 0
    assert "removing" not in result.stderr
    assert "cleaning" not in result.stderr
    assert "no gIB on this machine" in result.stderr


SPOKEN_OF = {
    "etc/profile.d/branch.sh": "if [ -d /opt ]; then\n  export NCCL_NET=gIB\nfi\n",
    "etc/systemd/system.conf": '[Manager]\nDefaultEnvironment=A=1 "NCCL_NET=gIB" B=2\n',
    "etc/systemd/system-environment-generators/nccl": "#!/bin/sh\necho NCCL_NET=gIB\n",
}


def test_gib_stage_keeps_what_is_not_nccls_when_it_cleans(gib, run_stage):
    """The image's other settings are somebody's; a file that no shell can read is nobody's."""
    for path, text in SPOKEN_OF.items():
        gib.write(path, text)

    result = run_stage("20-gib.sh")

    assert result.returncode == 0, result.stderr
    assert gib.read("etc/systemd/system.conf") == "[Manager]\nDefaultEnvironment=A=1  B=2\n"
    assert not (gib.root / "etc/profile.d/branch.sh").exists()
    assert not (gib.root / "etc/systemd/system-environment-generators/nccl").exists()


@pytest.mark.parametrize("broken", ["ldconfig", "systemctl"])
def test_gib_stage_fails_when_it_cannot_see_what_is_left(gib, run_stage, stub, broken):
    """Its first form took the failure of its own grep for a clean machine."""
    stub(broken, body='if [[ "$1" == -p || "$1" == show-environment ]]; then exit 2; fi')

    result = run_stage("20-gib.sh")

    assert result.returncode != 0
    assert "no gIB on this machine" not in result.stderr


def test_gib_stage_fails_when_the_linker_still_finds_it(gib, run_stage, stub):
    """A library in a place that we do not know would stop NCCL ten minutes later."""
    stub("ldconfig", body='if [[ "${1-}" == -p ]]; then echo "libnccl-net.so => /opt/gib/x.so"; fi')

    result = run_stage("20-gib.sh")

    assert result.returncode == 1
    assert "/opt/gib/x.so" in gib.why("20-gib")
