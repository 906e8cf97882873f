"""Whatever form gIB comes in, the check sees it, the stage takes it out, and vLLM never has it."""

import pytest

from local.machine import gib
from tests.machine.vllm_server import ROOT

CHECK = f"cd {ROOT} && python3 -m startup.nccl_env"
STAGE = f"bash {ROOT}/startup/20-gib.sh"
PLACES = {
    "plugin": "/usr/local/gib",
    "ld.so.conf.d": "/etc/ld.so.conf.d/nccl-gib.conf: /usr/local/gib/lib64",
    "profile.d": "/etc/profile.d/nccl_env.sh: export NCCL_NET=gIB",
    "environment": "/etc/environment: NCCL_NET=gIB",
    "nccl.conf": "/etc/nccl.conf: NCCL_NET=gIB",
    "default-environment": "systemd's environment: NCCL_NET=gIB",
    "environment-generator": "systemd's environment: NCCL_NET=gIB",
    "service.d": "/etc/systemd/system/service.d/90-nccl.conf: Environment=",
    "set-environment": "systemd's environment: NCCL_NET=gIB",
}
TREES = {"trees": [ROOT / "startup"]}


def test_every_form_that_a_machine_can_be_born_with_has_its_row():
    """A form without a row is a form that nobody takes out."""
    assert set(PLACES) == set(gib.FORMS)


@pytest.mark.parametrize("form", PLACES)
def test_gib_is_seen_before_the_stage_and_gone_after_it(run, form):
    """The first look is the twin: with nothing taken out, the same check is red."""
    settle = "systemctl start google-nccl-env" if form == "set-environment" else "true"
    commands = [
        settle,
        f"{CHECK} machine",
        STAGE,
        f"{CHECK} machine",
        STAGE,
        "cat /etc/environment",
    ]

    _, before, stage, after, again, kept = run(commands, settings={"gib": form}, image=TREES)

    assert before.exit == 1
    assert PLACES[form] in before.text
    assert (stage.exit, after.exit, after.text) == (0, 0, ""), stage.text + after.text
    assert "no gIB on this machine" in stage.text
    assert "removing" not in again.text
    assert "cleaning" not in again.text
    assert "PATH=" in kept.text


def test_machine_is_not_born_with_a_form_that_nobody_knows():
    """A misspelt form would be a row that proves nothing."""
    with pytest.raises(ValueError, match=r"gib=nccl\.cnf: unknown \['nccl\.cnf'\]"):
        gib.files("nccl.cnf")


def test_unset_environment_leaves_what_systemds_own_configuration_sets(run):
    """As the real one: it takes away only what `set-environment` has set; the file has to go."""
    show = "systemctl show-environment | grep -c NCCL_NET="
    commands = [
        "systemctl unset-environment NCCL_NET",
        show,
        "rm /etc/systemd/system.conf.d/90-nccl.conf; systemctl daemon-reload",
        show,
    ]

    *_, before, _, after = run(commands, settings={"gib": "default-environment"})

    assert (before.text, after.text) == ("1", "0")


def test_all_forms_at_once_are_taken_out(run):
    """The plugin's own library folder in the linker's cache is the one that hides best."""
    commands = ["ldconfig", f"{CHECK} machine", STAGE, f"{CHECK} machine", "env"]

    _, before, stage, after, _ = run(commands, settings={"gib": "true"}, image=TREES)

    assert "the linker's cache: libnccl-net_internal.so" in before.text
    assert (stage.exit, after.exit) == (0, 0), stage.text + after.text


def test_stage_leaves_no_empty_environment_line_where_gib_was_all_of_it(run):
    """To systemd an empty one means: forget those before. Others' settings would go with gIB's."""
    folder = "/etc/systemd/system/service.d"
    probe = "[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nExecStart=/usr/bin/env\\n"
    words = '\\x27NCCL_NET=gIB\\x27 OWN_B=2 "NCCL_DEBUG=a b"'
    commands = [
        f"mkdir -p {folder} && printf '[Service]\\nEnvironment=OWN_A=1\\n' >{folder}/10.conf",
        f"printf '[Service]\\nEnvironment={words}\\n' >{folder}/20.conf",
        f"printf '{probe}' >/etc/systemd/system/probe.service",
        STAGE,
        "systemctl start probe && journalctl -u probe -n 50 -o cat --no-pager",
    ]

    *_, stage, said = run(commands, settings={"gib": "service.d"}, image=TREES)

    assert stage.exit == 0, stage.text
    assert {"OWN_A=1", "OWN_B=2"} <= set(said.text.splitlines())
    assert "NCCL_" not in said.text


@pytest.mark.parametrize("broken", ["ldconfig", "systemctl"])
def test_stage_is_red_when_its_check_cannot_look(run, broken):
    """A check that takes its own failure for "clean" lets NCCL find out ten minutes later."""
    fake = f"mkdir /root/bin; printf '#!/bin/sh\\nexit 2\\n' >/root/bin/{broken}"
    commands = [f"{fake}; chmod +x /root/bin/{broken}", f"PATH=/root/bin:$PATH; {CHECK} machine"]

    _, found = run(commands, image=TREES)

    assert found.exit == 3
    assert f"could not look for gIB: {broken}" in found.text


# What the unit needs to start; its vLLM only stays.
PREPARE = f"""mkdir -p /opt/mayfly /opt/mayfly-engine/env/bin /run/mayfly /run/mayfly-key \
  /run/systemd/system /mnt/mayfly /var/log/mayfly
cp -r {ROOT}/startup /opt/mayfly/
printf '#!/bin/sh\\nexec sleep 600\\n' >/opt/mayfly-engine/env/bin/vllm
chmod 755 /opt/mayfly-engine/env/bin/vllm
cat >/run/mayfly/env <<X
MAYFLY_PORT=8000
MAYFLY_SERVED_MODEL=k
MAYFLY_SERVE_FLAGS=[]
MAYFLY_LOAD_FORMAT=safetensors
MAYFLY_WEIGHTS_URI=gs://weights/k
MAYFLY_START_S=600
X
echo VLLM_API_KEY=k >/run/mayfly-key/env
cp {ROOT}/startup/mayfly-vllm.service /run/systemd/system/"""
UNIT = "/run/systemd/system/mayfly-vllm.service"
SETTINGS = "/opt/mayfly/startup/mayfly-vllm.env"
START = "systemctl daemon-reload && systemctl restart mayfly-vllm"
DROP_IN = """mkdir -p /etc/systemd/system/service.d
echo NCCL_NET=gIB >/etc/gib.env
printf '[Service]\\nEnvironmentFile=/etc/gib.env\\n' >/etc/systemd/system/service.d/x.conf"""
LOOK = f"{CHECK} unit mayfly-vllm.service"


def test_unit_has_nccls_settings_also_where_systemd_itself_is_told_of_gib(run):
    """The unit alone must hold: an image may put the settings back at any time."""
    commands = [PREPARE, "systemctl start google-nccl-env", START, LOOK]

    *_, start, look = run(
        commands, settings={"gib": "default-environment,set-environment"}, image=TREES
    )

    assert start.exit == 0, start.text
    assert (look.exit, look.text) == (0, "")


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (f"sed -i /NCCL_NET_PLUGIN/d {SETTINGS}", "NCCL_NET_PLUGIN is None, not 'none'"),
        ("systemctl set-environment NCCL_ALGO=Ring", "NCCL_ALGO is set (Ring)"),
        (f"sed -i s/LD_LIBRARY_PATH// {UNIT}", "LD_LIBRARY_PATH names the plugin"),
        (DROP_IN, "NCCL_NET is 'gIB', not 'Socket'"),
    ],
)
def test_check_of_the_unit_is_red_when_the_running_process_has_other_settings(run, spoil, line):
    """It reads what the kernel says of the process, not what the file promises."""
    commands = [PREPARE, spoil, START, LOOK]

    *_, look = run(commands, settings={"gib": "default-environment"}, image=TREES)

    assert look.exit == 1
    assert line in look.text


def test_check_of_the_unit_is_not_green_when_nothing_runs(run):
    """No process has no wrong setting; that proves nothing."""
    commands = [PREPARE, LOOK, f"{CHECK} unit nope.service"]

    _, look, unknown = run(commands, image=TREES)

    assert (look.exit, unknown.exit) == (3, 3)
    assert "mayfly-vllm.service does not run" in look.text
