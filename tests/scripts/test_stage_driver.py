"""The driver stage's corners that no machine need be booted for; the rows of a whole machine are in
tests/machine/test_driver_matrix.py. And the removal of gIB."""

import pytest

from tests.fake_google import manifest_of

URI = "gs://w/drivers/580"
PACKAGES = {
    "nvidia-utils-580-server_580.159.04-0ubuntu1_amd64.deb": b"utils",
    "nvidia-fabricmanager-580_580.159.04-0ubuntu1_amd64.deb": b"fabric",
}
OLD, NEW = "570.158.01", "580.159.04"
SMI = "NVIDIA H100 80GB HBM3, "


@pytest.fixture
def born(machine):
    """Driver 570, whose module can be exchanged. Files: smi, disk, fabric hold what is answered."""
    for name in ("smi", "disk", "fabric"):
        machine.write(name, OLD if name != "smi" else SMI + OLD)
    machine.write("sys/module/nvidia/version", OLD)
    root = machine.root
    machine.stub("nvidia-smi", body=f"cat {root}/smi")
    machine.stub("modinfo", body=f"cat {root}/disk")
    machine.stub("mokutil", body="echo SecureBoot disabled")
    machine.stub("systemctl", body="[[ $1 != is-active ]] || echo active")
    loads = f"echo '{SMI}{NEW}' >{root}/smi"
    machine.stub("modprobe", body=f"if [[ $1 == -r ]]; then rm -r {root}/sys; else {loads}; fi")
    line = f'echo "installed nvidia-fabricmanager-580 $(<{root}/fabric)-0ubuntu1"'
    machine.stub("dpkg-query", body=line)
    machine.stub("apt-get", body=f"echo {NEW} >{root}/disk; echo {NEW} >{root}/fabric")
    for name, data in PACKAGES.items():
        machine.google.put(f"{URI}/{name}", data)
    machine.google.put(f"{URI}/manifest.json", manifest_of(PACKAGES))
    return machine


def test_driver_stage_upgrades_in_place_when_the_driver_is_too_old(born, run_stage):
    """570 cannot read the PTX of the H100 kernels; a reboot would cost minutes more."""
    result = run_stage("10-driver.sh")

    assert result.returncode == 0, result.stderr
    assert f"driver {NEW}, fabric manager {NEW}: installed in place of {OLD}" in result.stderr
    (install,) = born.calls("apt-get")
    assert install.count(".deb") == 2
    assert "--no-install-recommends" in install
    assert born.calls("modprobe") == [
        "modprobe -r nvidia",
        "modprobe nvidia",
        "modprobe nvidia_uvm",
    ]
    assert not (born.root / "run/mayfly/reboot-planned").exists()


def test_driver_stage_hears_nvidia_smi_out_when_it_says_much(born, run_stage, stub):
    """A reader that leaves after the first of eight lines makes the working driver look broken."""
    many = f'BEGIN {{ for (i = 0; i < 20000; i++) print "{SMI}{NEW}" }}'
    stub("nvidia-smi", body=f"exec awk '{many}'")
    born.write("fabric", NEW)

    result = run_stage("10-driver.sh")

    assert result.returncode == 0, result.stderr
    assert "left alone" in result.stderr


@pytest.mark.parametrize(("state", "status"), [("active", 0), ("inactive", 1)])
def test_driver_stage_trusts_a_fabric_manager_of_no_package_only_when_it_runs(
    born, run_stage, stub, state, status
):
    """It ends at once beside a driver of another version, wherever it came from."""
    born.write("smi", SMI + "590.48.01")
    stub("dpkg-query", exit_status=1)
    stub("systemctl", body=f"echo {state}")

    assert run_stage("10-driver.sh").returncode == status
    assert born.calls("apt-get") == []


def test_driver_stage_takes_the_users_of_a_module_out_before_it(born, run_stage):
    """modprobe -r gives up at the first module that another one needs."""
    for module in ("nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia_peermem"):
        born.write(f"sys/module/{module}/version", OLD)

    assert run_stage("10-driver.sh").returncode == 0
    assert born.calls("modprobe")[0] == (
        "modprobe -r nvidia_peermem nvidia_uvm nvidia_drm nvidia_modeset nvidia"
    )


def test_driver_stage_says_that_it_will_reboot_before_it_installs(born, run_stage, stub):
    """The weights wait when they see it: what arrives in RAM now would be lost."""
    marker = born.root / "run/mayfly/reboot-planned"
    stub("modprobe", exit_status=1)
    stub("apt-get", body=f"cat {marker} >{born.root}/seen; echo {NEW} >{born.root}/disk")

    result = run_stage("10-driver.sh")

    assert result.returncode == 75
    assert born.read("seen") == f"driver {OLD} is in use\n"
    assert born.read("var/lib/mayfly/driver-attempts") == "1\n"


def test_driver_stage_reboots_no_third_time(born, run_stage, stub):
    """A machine that reboots for ever is the most expensive way to serve nothing."""
    born.write("var/lib/mayfly/driver-attempts", "2\n")
    stub("modprobe", exit_status=1)

    result = run_stage("10-driver.sh")

    assert result.returncode == 1
    assert f"after 2 reboots still: driver {OLD} is in use" in born.why("10-driver")
    assert born.calls("apt-get") == []


def test_driver_stage_starts_the_services_when_it_resumes_after_the_reboot(born, run_stage, stub):
    """The fabric manager was stopped for the upgrade; without it CUDA says 802."""
    for name in ("smi", "disk", "fabric"):
        born.write(name, NEW if name != "smi" else SMI + NEW)
    born.write("var/lib/mayfly/driver-attempts", "1\n")
    started = born.root / "started"
    stub(
        "systemctl",
        body=f'[[ "$*" != "start nvidia-fabric"* ]] || touch {started}\n'
        f"[[ $1 != is-active || -e {started} ]] || exit 3",
    )

    result = run_stage("10-driver.sh")

    assert result.returncode == 0, result.stderr
    assert "systemctl start nvidia-fabricmanager.service" in born.calls("systemctl")
    assert "by way of a reboot" in result.stderr
    assert born.calls("apt-get") == []


def test_driver_stage_gives_the_managers_own_words_when_it_does_not_start(born, run_stage, stub):
    """CUDA would only say 802, after ten minutes of loading."""
    for name in ("smi", "disk", "fabric"):
        born.write(name, NEW if name != "smi" else SMI + NEW)
    stub("systemctl", exit_status=3)
    stub("journalctl", body="echo failed to find NVSwitch; echo exiting")

    assert run_stage("10-driver.sh").returncode == 1
    assert "error 802: failed to find NVSwitch exiting" in born.why("10-driver")


def test_driver_stage_loads_what_waits_on_disk_when_nvidia_smi_does_not_answer(
    born, run_stage, stub
):
    """After the image's own upgrade the libraries are new and the module is old."""
    stub("nvidia-smi", body=f"cat {born.root}/late 2>/dev/null || exit 18")
    stub("modprobe", body=f"[[ $1 == -r ]] || echo '{SMI}{NEW}' >{born.root}/late")
    born.write("disk", NEW)
    born.write("fabric", NEW)

    result = run_stage("10-driver.sh")

    assert result.returncode == 0, result.stderr
    assert f"driver {OLD} loaded, {NEW} on disk, no answer from nvidia-smi" in result.stderr
    assert born.calls("apt-get") == []


def test_driver_stage_gives_modprobes_words_when_the_module_does_not_load(born, run_stage, stub):
    """ "Key was rejected by service" is all that the kernel says about Secure Boot."""
    stub("modprobe", body='[[ $1 == -r ]] || { echo "Key was rejected by service" >&2; exit 1; }')

    assert run_stage("10-driver.sh").returncode == 1
    assert f"driver {NEW} does not load: Key was rejected by service" in born.why("10-driver")


def test_driver_stage_names_the_command_when_no_packages_were_seeded(born, run_stage):
    """The node has no way out: it cannot fetch them itself."""
    (born.google.buckets / "w/drivers/580/manifest.json").unlink()

    result = run_stage("10-driver.sh")

    assert result.returncode == 1
    assert f"there are no driver packages at {URI}; run: mayfly seed" in born.why("10-driver")
    assert born.calls("modprobe", "apt-get") == []


def test_driver_stage_names_the_command_when_a_package_is_not_in_the_bucket(born, run_stage):
    """Somebody has tidied up."""
    (born.google.buckets / "w/drivers/580" / next(iter(PACKAGES))).unlink()

    assert run_stage("10-driver.sh").returncode == 1
    assert f"could not pull the driver packages from {URI}; run: may" in born.why("10-driver")
    assert born.calls("modprobe", "apt-get") == []


def test_driver_stage_refuses_a_package_when_its_content_is_not_the_manifests(born, run_stage):
    """It would run as root."""
    name = next(iter(PACKAGES))
    born.google.put(f"{URI}/{name}", b"evil!")

    result = run_stage("10-driver.sh")

    assert result.returncode == 1
    assert f"{name} at {URI} is not what its manifest says" in born.why("10-driver")
    assert born.calls("modprobe", "apt-get") == []


def test_driver_stage_pulls_a_package_again_when_it_arrived_damaged(born, run_stage):
    """Once may be the way; twice is the bucket."""
    born.corrupt.write_text(f"{next(iter(PACKAGES))} 1")

    result = run_stage("10-driver.sh")

    assert result.returncode == 0, result.stderr
    assert len(born.calls("gsutil")) == 2


def test_driver_stage_installs_no_package_of_an_older_manifest(born, run_stage):
    """What an earlier boot has pulled may be of another version."""
    born.write("var/cache/mayfly/driver/stale_1_amd64.deb", "old")
    born.write("var/cache/mayfly/driver.json", "{}")

    assert run_stage("10-driver.sh").returncode == 0
    assert "stale" not in "".join(born.calls("apt-get"))


@pytest.mark.parametrize(
    ("said", "line", "tries"),
    [
        (
            "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 812 (unatt)",
            "apt's lock did not come free within 300 s: E: Could not get lock",
            1,
        ),
        (
            "E: Unable to correct problems, you have held broken packages.",
            "apt-get could not install the driver packages: E: Unable to correct problems",
            2,
        ),
        (
            "something else",
            "apt-get could not install the driver packages: Reading lists something",
            2,
        ),
    ],
)
def test_driver_stage_gives_apts_last_words_when_apt_fails(
    born, run_stage, stub, said, line, tries
):
    """The log is on a machine that will be gone."""
    stub("apt-get", body=f"echo 'Reading lists'; echo '{said}' >&2", exit_status=100)

    assert run_stage("10-driver.sh").returncode == 1
    assert line in born.why("10-driver")
    assert len(born.calls("apt-get")) == tries


def test_driver_stage_finishes_what_dpkg_had_begun_when_apt_asks_for_it(born, run_stage, stub):
    """A reboot in the middle of the image's own upgrades leaves it so."""
    done = f"{born.root}/done"
    asks = "E: dpkg was interrupted, you must manually run 'dpkg --configure -a'"
    body = f'[[ -e {done} ]] || {{ echo "{asks}"; exit 100; }}; echo {NEW} >{born.root}/disk'
    stub("apt-get", body=f"{body}; echo {NEW} >{born.root}/fabric")
    stub("dpkg", body=f"touch {done}")

    result = run_stage("10-driver.sh")

    assert result.returncode == 0, result.stderr
    assert born.calls("dpkg") == ["dpkg --configure -a"]


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
