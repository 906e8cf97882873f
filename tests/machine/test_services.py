"""The machine's systemctl manages real processes by real unit files."""

import pytest

UNIT = """cat >/etc/systemd/system/{name}.service <<'X'
[Unit]
Description={name}
{unit}
[Service]
{body}
[Install]
WantedBy=multi-user.target
X
systemctl daemon-reload"""


def unit(name, body, extra=""):
    return UNIT.format(name=name, body="\n".join(body), unit=extra)


def test_service_gets_its_environment_directories_and_credentials(run):
    """A unit that works here must not depend on what a VM does not give it."""
    body = [
        "Type=oneshot",
        "Environment=A=1 'B=two words'",
        "EnvironmentFile=/etc/own.env",
        "UnsetEnvironment=GONE",
        "WorkingDirectory=/var",
        "StateDirectory=own",
        "LoadCredential=key:/root/secret",
        "StandardOutput=append:/var/log/own.log",
        "ExecStartPre=-/bin/false",
        'ExecStart=/bin/sh -c \'pwd; echo "$$A $$B $$C $$GONE"; '
        "cat $CREDENTIALS_DIRECTORY/key; echo $STATE_DIRECTORY'",
    ]
    commands = [
        "echo secret >/root/secret; printf 'C=\"three\"\\nGONE=x\\n' >/etc/own.env; "
        + unit("own", body),
        "systemctl start own",
        "cat /var/log/own.log",
    ]

    *_, started, log = run(commands)

    assert started.exit == 0, started.text
    assert log.text.splitlines() == ["/var", "1 two words three ", "secret", "/var/lib/own"]


def test_failed_service_restarts_until_its_start_limit(run):
    """A crash loop has to end, and to be seen."""
    body = ["ExecStart=/bin/sh -c 'echo try; exit 3'", "Restart=on-failure", "RestartSec=50ms"]
    limits = "StartLimitIntervalSec=60\nStartLimitBurst=3"
    commands = [
        unit("loop", body, limits),
        "systemctl start loop",
        "for i in $(seq 600); do systemctl is-failed --quiet loop && break; sleep 0.1; done; "
        "systemctl show loop -p Result -p ExecMainStatus -p ActiveState",
        "journalctl -u loop -o cat | grep -c '^try$'",
        "systemctl reset-failed loop; systemctl is-active loop",
    ]

    found = run(commands)

    assert "Result=start-limit-hit" in found[2].text
    assert "ExecMainStatus=3" in found[2].text
    assert (found[3].text, found[4].text) == ("3", "inactive")


def test_service_that_ignores_term_is_killed_after_its_stop_timeout(run):
    """vLLM with an open stream does exactly that."""
    body = [
        "ExecStart=/bin/sh -c 'trap \"\" TERM; sleep 100 & while :; do sleep 1; done'",
        "TimeoutStopSec=1",
        "KillMode=mixed",
    ]
    commands = [
        unit("stubborn", body),
        "systemctl start stubborn && systemctl is-active stubborn",
        "systemctl stop stubborn; systemctl show stubborn -p Result --value",
        "pgrep -f 'sleep 100'",
    ]

    found = run(commands)

    assert found[1].text == "active"
    assert found[2].text == "timeout"
    assert found[3].exit == 1  # the whole group is gone


def test_service_does_not_come_up_when_it_is_stopped_in_its_start(run):
    """A machine that is told to halt while it boots would take as long as its units may."""
    body = [
        "ExecStartPre=/bin/sh -c 'trap \"exit 0\" TERM; touch /run/begun; sleep 600 & wait'",
        "ExecStart=/bin/sleep 600",
        "ExecStop=/bin/touch /run/asked",
    ]
    commands = [
        unit("early", body),
        "systemctl start early & until [ -e /run/begun ]; do sleep 0.1; done; systemctl stop early",
        "systemctl show early -p ActiveState -p Result; ls /run/asked",
        "journalctl -u early -o cat | grep -c Started",
    ]

    found = run(commands)

    assert found[1].exit == 0
    assert found[2].text.splitlines()[:2] == ["ActiveState=inactive", "Result=success"]
    assert "No such file" in found[2].text
    assert found[3].text == "0"


def test_dynamic_user_can_write_only_where_it_is_granted(run):
    """The engine must not be able to change its weights or the system."""
    name = ".mayfly-probe"  # /tmp/x may be anything: checkouts lie below /tmp, too
    folders = " ".join(f"{at}/{name}" for at in ("/etc", "/root", "/opt", "/var/cache/own", "/tmp"))
    probe = f"for f in {folders}; do touch $$f && echo $$f; done"
    body = [
        "Type=oneshot",
        "DynamicUser=yes",
        "CacheDirectory=own",
        "StandardOutput=append:/var/log/dynamic.log",
        "StandardError=null",
        f"ExecStart=/bin/sh -c '{probe}; true'",
    ]
    commands = [unit("dynamic", body), "systemctl start dynamic", "cat /var/log/dynamic.log"]

    *_, written = run(commands)

    assert written.text.split() == [f"/var/cache/own/{name}", f"/tmp/{name}"]


LOOK = "StandardOutput=append:/var/log/look.log\nStandardError=append:/var/log/look.log"


def tried(run, body, command, before="true", after="true"):
    """(what `command` said as a unit, what `after` then says outside)."""
    service = ["Type=oneshot", LOOK, *body, f"ExecStart=-/bin/sh -c '{command}'"]
    *_, said, outside = run(
        [f"{before}; {unit('look', service)}", "systemctl start look; cat /var/log/look.log", after]
    )
    return said.text.splitlines(), outside.text.splitlines()


# What a unit asks for, what its program tries, and what it then hears; without it, it does not.
DIRECTIVES = [
    ("CapabilityBoundingSet=", "chroot / true", "Operation not permitted"),
    ("CapabilityBoundingSet=~CAP_SYS_CHROOT", "chroot / true", "Operation not permitted"),
    ("CapabilityBoundingSet=CAP_CHOWN", "chroot / true", "Operation not permitted"),
    ("RestrictSUIDSGID=yes", "chmod 4755 /srv", "Operation not permitted"),
    ("RestrictNamespaces=yes", "unshare -m true", "Operation not permitted"),
    ("ProtectKernelTunables=yes", "hostname >/proc/sys/kernel/hostname", "Read-only file"),
    ("ProtectKernelLogs=yes", "stat -c mode-%%a /proc/kmsg", "mode-0"),
    ("ProtectHome=read-only", "touch /home/x", "Read-only file system"),
    ("ProtectHome=yes", "ls /home/user", "No such file or directory"),
    ("ProtectSystem=full", "touch /etc/x", "Read-only file system"),
    ("InaccessiblePaths=/srv", "cat /srv/file", "No such file or directory"),
    ("ReadOnlyPaths=/srv", "touch /srv/file", "Read-only file system"),
    ("IPAddressDeny=127.0.0.0/8", "exec 3<>/dev/tcp/127.0.0.1/9", "Operation not permitted"),
    ("LimitNOFILE=5", "ulimit -n", "5"),
]


def test_directive_is_carried_out_when_a_unit_asks_for_it(run):
    """A guard that is only written down is missed on the day that it counts."""
    commands = ["mkdir -p /home/user; touch /srv/file"]
    for directive, command, _ in DIRECTIVES:
        program = f"ExecStart=-/bin/bash -c '{command} && echo done'"
        for body in ([directive], []):
            commands.append(unit("look", ["Type=oneshot", LOOK, *body, program]))
            commands[-1] += "\nrm -f /var/log/look.log; systemctl reset-failed"
            commands[-1] += "; systemctl start look; cat /var/log/look.log"

    said = [item.text for item in run(commands)[1:]]

    guarded, free = said[0::2], said[1::2]
    for (directive, _, words), with_it, without_it in zip(DIRECTIVES, guarded, free, strict=True):
        assert words in with_it, directive
        assert words not in without_it, directive


def test_dynamic_user_takes_over_the_directory_that_root_has_filled(run):
    """Kernel caches are restored by root, before the unit's first start."""
    before = "mkdir -p /var/cache/own/deep; echo old >/var/cache/own/deep/file"
    body = ["DynamicUser=yes", "CacheDirectory=own"]
    command = "cd $CACHE_DIRECTORY; cat deep/file; echo new >deep/file; pwd -P; stat -c %%u:%%a ."
    after = "readlink /var/cache/own; cat /var/cache/own/deep/file; stat -c %u:%a /var/cache/own/."

    (old, path, inside), (link, new, outside) = tried(run, body, command, before, after)

    assert (old, path) == ("old", "/var/cache/private/own")
    assert (link, new) == ("private/own", "new")
    assert inside == outside
    assert inside.endswith(":755")


def test_dynamic_user_sees_no_other_units_private_directory(run):
    """The next unit may be given the same uid."""
    before = "mkdir -p /var/cache/private/other; chmod 700 /var/cache/private"
    command = "ls /var/cache/private; id -u | grep -c ^6"

    said, _ = tried(run, ["DynamicUser=yes", "CacheDirectory=own"], command, before)

    assert said[0] == "own"


def test_unit_does_not_start_when_a_directory_lies_where_its_link_should(run):
    """systemd does not guess which of the two is the right one."""
    before = "mkdir -p /var/cache/own /var/cache/private/own"

    said, _ = tried(run, ["DynamicUser=yes", "CacheDirectory=own"], "echo started", before)

    assert "started" not in said


def test_command_with_a_plus_runs_outside_what_confines_its_unit(run):
    """What CUDA's device needs, the unit itself may not do."""
    body = ["DynamicUser=yes", 'ExecStartPre=+/bin/sh -c "touch /srv/made; id -u"']

    said, outside = tried(run, body, "touch /srv/tried", after="ls /srv")

    assert said[0] == "0"
    assert "Read-only file system" in said[1]
    assert outside == ["made"]


@pytest.mark.parametrize(
    "directive", ["MemoryMax=1G", "TasksMax=50", "User=nobody", "SystemCallFilter=@system-service"]
)
def test_unit_is_refused_when_nobody_here_can_carry_out_what_it_asks(run, directive):
    """To take it and do nothing would say: it is safe."""
    _, start = run([unit("guard", ["ExecStart=/bin/true", directive]), "systemctl start guard"])

    assert start.exit == 1
    assert "bad unit file setting" in start.text


@pytest.mark.parametrize(
    ("directive", "words"),
    [
        ("CapabilityBoundingSet=CAP_FLY", "Failed to parse capability"),
        ("IPAddressAllow=localhorst", "Address prefix is invalid"),
        ("ReadOnlyPaths=/nowhere", "Failed to set up mount namespacing: /nowhere"),
    ],
)
def test_unit_does_not_start_when_a_guard_cannot_be_understood(run, directive, words):
    """Without the guard that somebody meant it must not run."""
    commands = [
        unit("guard", ["Type=oneshot", "ExecStart=/bin/true", directive]),
        "systemctl start guard",
        "journalctl -u guard -o cat",
    ]

    _, start, journal = run(commands)

    assert start.exit == 1
    assert words in journal.text


def test_unit_with_an_unknown_directive_is_refused(run):
    """systemd only warns; a misspelt guard would never be missed."""
    commands = [unit("typo", ["ExecStart=/bin/true", "TimeoutStopSecs=3"]), "systemctl start typo"]

    _, start = run(commands)

    assert start.exit == 1
    assert "bad unit file setting" in start.text


def test_dependency_failure_stops_what_requires_it(run):
    """A server without its mount must not start."""
    commands = [
        unit("base", ["Type=oneshot", "ExecStart=/bin/false"]),
        unit("top", ["ExecStart=/bin/sleep 60"], "Requires=base.service\nAfter=base.service"),
        "systemctl start top",
        "systemctl is-active top",
    ]

    found = run(commands)

    assert "A dependency job for top.service failed" in found[2].text
    assert (found[2].exit, found[3].text) == (1, "inactive")


def test_enabled_service_and_startup_script_run_again_after_a_reboot(boot):
    """The driver's upgrade depends on it: disk kept, RAM lost."""
    script = f"""#!/bin/bash
[ -e /root/second ] && {{ systemctl is-active own; ls /run/lost /mnt/lost; echo all-seen; exit; }}
{unit("own", ["ExecStart=/bin/sleep 600"])}
systemctl enable --now own
mount -t tmpfs -o size=1m x /mnt; touch /root/second /run/lost /mnt/lost
systemctl reboot
sleep 60
"""
    machine = boot(script)

    console = machine.console("startup-script: all-seen")

    assert "startup-script: active" in console
    assert "cannot access '/run/lost'" in console
    assert "cannot access '/mnt/lost'" in console
    assert machine.off == []
