"""Stage 10 on every machine that a session may find: the scripts as they are, in the sandbox.

"An hour lost on drivers" is one of the two things our users fear. Each row boots a machine of its
own, runs the stage through the runner that a VM has, over its reboots, and looks at the end.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from local.machine import Image, Machines
from local.machine.guest import archive
from tests.fake_google import TOKEN, FakeGoogle, manifest_of
from tests.machine import outcome
from tests.machine.conftest import NUMBER, PROJECT, Booted, instance
from tests.machine.vllm_server import ROOT

URI = "gs://w/drivers/580"
OLD, NEW, NEWER, PATCH = "570.195.03", "580.159.04", "590.48.01", "580.95.05"
GSUTIL = ROOT / "tests/scripts/gsutil_stub.py"
LIMIT_S = 240
SIDE_BY_SIDE = 4
STATE = [
    "nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1",
    "dpkg-query -W -f='${source:Upstream-Version}\\n' 'nvidia-fabricmanager-*'",
    "systemctl is-active nvidia-fabricmanager",
]
# The runner as boot.sh starts it, with this stage alone; then what there is, as long as we stay up.
SCRIPT = """#!/bin/bash
cd {root}
export PYTHONPATH={root} PYTHONDONTWRITEBYTECODE=1 MAYFLY_LAYER=session MAYFLY_PROFILE=kimi-k2.5
export MAYFLY_DRIVER_BRANCH={branch} MAYFLY_DRIVER_URI={uri} MAYFLY_MACHINE={machine}
export MAYFLY_GPU_COUNT={gpus} MAYFLY_ENGINE={engine}
python3 - <<'X'
from startup import run
run.LAYERS["session"] = [stage for stage in run.SESSION if stage.name == "driver"]
print("runner ended with", run.main())
X
[[ $(</run/mayfly/phase) == rebooting ]] && exec sleep 60
{state}
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a machine is born with, and what it must have come to.

    driver, fabric: versions at the end; "" none. active: whether the fabric manager runs.
    installs: calls of `apt-get install`. words: in what the user was told last. console: in what
    the machine printed.
    """

    born: dict[str, str] = field(default_factory=dict)
    machine: str = "a3-highgpu-8g"
    engine: str = "0.24.0"
    branch: str = "580"
    secure_boot: bool = False
    driver: str = NEW
    fabric: str = NEW
    active: bool = True
    ok: bool = True
    installs: int = 0
    reboots: int = 0
    words: str = "left alone"
    console: str = ""


LOADED = f"driver {NEW}, fabric manager {NEW}: installed in place of "
MENDED = f"driver {NEW}, fabric manager {NEW}: fabric manager installed in place of "
ALONE = Row(born={"driver": NEW})
UPGRADE = Row(born={"driver": OLD}, installs=1, words=LOADED)
REFUSED = Row(
    born={"driver": OLD},
    secure_boot=True,
    driver=OLD,
    fabric=OLD,
    ok=False,
    words=f"driver {OLD} will not do and Secure Boot forbids another",
)
ROWS = {
    # driver x fabric manager
    "570": UPGRADE,
    "570, fabric manager missing": replace(UPGRADE, born={"driver": OLD, "fabricmanager": "none"}),
    "570, fabric manager mismatched": replace(
        UPGRADE, born={"driver": OLD, "fabricmanager": PATCH}
    ),
    "580": ALONE,
    "580, fabric manager missing": Row(
        born={"driver": NEW, "fabricmanager": "none"}, installs=1, words=MENDED
    ),
    "580, fabric manager mismatched": Row(
        born={"driver": NEW, "fabricmanager": PATCH}, installs=1, words=MENDED
    ),
    "older 580, fabric manager missing": replace(
        UPGRADE, born={"driver": PATCH, "fabricmanager": "none"}
    ),
    "older 580, fabric manager newer": replace(
        UPGRADE, born={"driver": PATCH, "fabricmanager": NEW}
    ),
    "newer": Row(born={"driver": NEWER}, driver=NEWER, fabric=NEWER),
    "newer, fabric manager missing": Row(
        born={"driver": NEWER, "fabricmanager": "none"},
        driver=NEWER,
        fabric="",
        active=False,
        ok=False,
        words=f"driver {NEWER} and fabric manager none differ, CUDA would refuse with error 802",
    ),
    "newer, fabric manager mismatched": Row(
        born={"driver": NEWER, "fabricmanager": NEW},
        driver=NEWER,
        active=False,
        ok=False,
        words=f"driver {NEWER} and fabric manager {NEW} differ, CUDA would refuse with error 802",
    ),
    "none": replace(UPGRADE, born={"driver": "none"}),
    "none, fabric manager alone": replace(UPGRADE, born={"driver": "none", "fabricmanager": NEW}),
    "none, fabric manager of another version": replace(
        UPGRADE, born={"driver": "none", "fabricmanager": PATCH}
    ),
    # apt
    "apt lock held": replace(
        UPGRADE, born={"driver": OLD, "apt_lock_s": "25"}, console="Waiting for cache lock"
    ),
    "apt fails once": replace(UPGRADE, born={"driver": OLD, "apt_fails": "1"}, installs=2),
    "apt fails": Row(
        born={"driver": OLD, "apt_fails": "9"},
        driver="",
        active=False,
        ok=False,
        installs=2,
        words="apt-get could not install the driver packages: Error! Bad return status for module",
    ),
    "dpkg was interrupted": replace(
        UPGRADE, born={"driver": OLD, "dpkg_interrupted": "true"}, installs=2
    ),
    "no kernel headers": Row(
        born={"driver": OLD, "kernel_headers": "false"},
        driver="",
        active=False,
        ok=False,
        installs=1,
        words="kernel headers for this kernel do not seem to be installed",
    ),
    # the module
    "module in use": replace(
        UPGRADE,
        born={"driver": OLD, "driver_busy": "true"},
        reboots=1,
        words="installed, by way of a reboot",
    ),
    "module in use, and the old one again after each reboot": Row(
        born={"driver": OLD, "driver_busy": "true", "initramfs_driver": OLD},
        driver="",
        active=False,
        ok=False,
        installs=1,
        reboots=2,
        words=f"after 2 reboots still: driver {OLD} is in use and {NEW} waits on disk",
    ),
    "580 waits on disk": Row(
        born={"driver": NEW, "initramfs_driver": OLD}, words="loaded, without a reboot"
    ),
    # Secure Boot
    "570 under Secure Boot": REFUSED,
    "none under Secure Boot": replace(
        REFUSED,
        born={"driver": "none"},
        driver="",
        fabric="",
        active=False,
        words="driver none will not do and Secure Boot forbids another",
    ),
    "580 under Secure Boot": replace(ALONE, secure_boot=True),
    "580 under Secure Boot, fabric manager mismatched": Row(
        born={"driver": NEW, "fabricmanager": PATCH}, secure_boot=True, installs=1, words=MENDED
    ),
    # what GPU and engine need
    "A100 on 570 before CUDA 13": Row(
        born={"driver": OLD}, machine="a2-ultragpu-8g", engine="0.19.1", driver=OLD, fabric=OLD
    ),
    "A100 on 570 before CUDA 13, fabric manager mismatched": replace(
        UPGRADE,
        born={"driver": OLD, "fabricmanager": PATCH},
        machine="a2-ultragpu-8g",
        engine="0.19.1",
    ),
    "A100 without a driver before CUDA 13": replace(
        UPGRADE, born={"driver": "none"}, machine="a2-ultragpu-8g", engine="0.19.1"
    ),
    "A100 on 570 with a CUDA 13 engine": replace(UPGRADE, machine="a2-ultragpu-8g"),
    "one A100, which hangs on no NVSwitch": Row(
        born={"driver": NEW, "fabricmanager": "none"},
        machine="a2-highgpu-1g",
        fabric="",
        active=False,
    ),
    "H100 on 570 before CUDA 13": replace(UPGRADE, engine="0.19.1"),
    "none, and a profile that names no branch": Row(
        born={"driver": "none"},
        branch="",
        driver="",
        fabric="",
        active=False,
        ok=False,
        words="the profile names no driver_branch; use an image with a driver",
    ),
}


@dataclass(frozen=True)
class Found:
    """commands: as recorded. told: each message that the user got, in order."""

    driver: str
    fabric: str
    active: bool
    commands: list[str]
    told: list[str]
    phases: list[str]
    console: str


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGoogle]:
    """The packages of branch 580 as the seeding VM leaves them."""
    folder = tmp_path_factory.mktemp("matrix") / "buckets"  # that one is its owner's alone
    folder.mkdir()
    files = {}
    for package in [*archive.drivers().values(), archive.world("")["dkms"]]:
        if "570" not in package.name:
            path = folder / package.file_name
            archive.build(package, path)
            files[package.file_name] = path.read_bytes()
            path.unlink()
    google = FakeGoogle(folder)
    for name, data in files.items():
        google.put(f"{URI}/{name}", data)
    google.put(f"{URI}/manifest.json", manifest_of(files))
    yield google
    google.close()


def ends(row: Row, google: FakeGoogle, folder: Path) -> Found:
    """Boot it, and wait until the stage is over, whatever reboots lie between."""
    port = int(google.host.rpartition(":")[2])
    image = Image(
        project_id=PROJECT,
        project_number=NUMBER,
        ports=[port],
        environment={
            "GOOGLE_STORAGE_CUSTOM_ENDPOINT": google.environment()[
                "GOOGLE_STORAGE_CUSTOM_ENDPOINT"
            ],
            "FAKE_BUCKETS": str(google.buckets),
        },
        gsutil=GSUTIL,
        trees=[ROOT / "startup", google.buckets],
    )
    script = SCRIPT.format(
        root=ROOT,
        uri=URI,
        branch=row.branch,
        machine=row.machine,
        engine=row.engine,
        gpus=row.machine.rpartition("-")[2].removesuffix("g"),
        state=outcome.script(STATE),
    )
    resource = instance(
        script,
        machineType=f"zones/z/machineTypes/{row.machine}",
        shieldedInstanceConfig={"enableSecureBoot": row.secure_boot},
    )
    machines = Machines(folder, image, row.born)
    machine = Booted(machines, resource["id"])
    machines.token = lambda email: TOKEN
    machines.boot(resource)
    try:
        console = machine.console("Finished running startup scripts", LIMIT_S)
        driver, fabric, active = outcome.read(console, len(STATE))
        commands = [" ".join(call["argv"]) for call in machines.commands(machine.id)]
    finally:
        machines.close()
    return Found(
        driver.text if driver.exit == 0 and driver.text[:1].isdigit() else "",
        fabric.text if fabric.exit == 0 else "",
        active.text == "active",
        commands,
        [str(value) for _, key, value in machine.told if key == "mayfly/message"],
        [str(value) for _, key, value in machine.told if key == "mayfly/phase"],
        console,
    )


@pytest.fixture(scope="module")
def ended(
    request: pytest.FixtureRequest, bucket: FakeGoogle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Found]]:
    """name -> how that row ended. Those that were selected run side by side."""
    items = [item for item in request.session.items if item.path == request.path]
    named = [item.callspec.params["name"] for item in items if hasattr(item, "callspec")]
    folder = tmp_path_factory.mktemp("machines")
    futures: dict[str, Future[Found]] = {}
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:

        def result(name: str) -> Future[Found]:
            if name not in futures:
                place = folder / str(len(futures))
                futures[name] = pool.submit(ends, ROWS[name], bucket, place)
            return futures[name]

        for name in named:
            result(name)
        yield lambda name: result(name).result()


@pytest.mark.parametrize("name", ROWS)
def test_driver_stage_ends_as_it_must_on_a_machine_with(name, ended):
    """The final driver, its fabric manager, the reboots, what was installed, what was said."""
    row = ROWS[name]

    found = ended(name)

    state = (found.driver, found.fabric, found.active)
    assert state == (row.driver, row.fabric, row.active), found.console
    assert found.phases.count("rebooting") == row.reboots
    assert sum(call.startswith("apt-get install") for call in found.commands) == row.installs
    assert row.words in found.told[-1]
    assert row.console in found.console
    assert ("failed" in found.phases) is not row.ok


def test_upgrade_is_told_from_what_was_found_to_what_was_done(ended):
    """Two minutes of silence look like a machine that hangs."""
    found = ended("570")

    assert found.told == [
        f"found: NVIDIA H100 80GB HBM3, driver {OLD}, fabric manager {OLD} (active), "
        "Secure Boot off; needed: driver 580 or newer for vLLM 0.24.0 on a3-highgpu-8g",
        f"installing driver {NEW} in place of {OLD}, from the bucket",
        f"driver {NEW}, fabric manager {NEW}: installed in place of {OLD}, without a reboot",
    ]
    changes = [call for call in found.commands if call.split()[0] in ("modprobe", "apt-get")]
    assert [" ".join(call.split()[:2]) for call in changes] == [
        "modprobe -r",
        "apt-get install",
        "modprobe nvidia",
        "modprobe nvidia_uvm",
    ]


@pytest.mark.parametrize("name", ["580", "newer", "A100 on 570 before CUDA 13"])
def test_driver_that_works_is_only_looked_at(name, ended):
    """A working driver is the one thing on the machine not to be improved."""
    changing = ("modprobe", "apt-get", "gsutil", "systemctl st", "systemctl restart", "dpkg -")

    assert [call for call in ended(name).commands if call.startswith(changing)] == []


@pytest.mark.parametrize("name", ["570 under Secure Boot", "none under Secure Boot"])
def test_nothing_is_touched_when_secure_boot_forbids_the_upgrade(name, ended):
    """Half an upgrade under Secure Boot is a machine without any driver."""
    changing = ("modprobe", "apt-get", "gsutil", "systemctl st", "systemctl restart", "dpkg -")

    assert [call for call in ended(name).commands if call.startswith(changing)] == []
    assert "nothing was changed" in ended(name).told[-1]


def test_reboot_is_announced_before_the_packages_are_installed(ended):
    """Weights that arrive in RAM meanwhile would be pulled twice: 595 GB of waiting."""
    told = ended("module in use").told

    announced = told.index(f"a reboot will follow: driver {OLD} is in use")
    assert told[announced + 1].startswith("installing driver")
