"""The machine's systemctl manages real processes by real unit files."""

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
        "for i in $(seq 100); do systemctl is-failed --quiet loop && break; sleep 0.1; done; "
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


def test_dynamic_user_can_write_only_where_it_is_granted(run):
    """The engine must not be able to change its weights or the system."""
    probe = "for f in /etc/x /root/x /opt/x /var/cache/own/x /tmp/x; do touch $$f && echo $$f; done"
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

    assert written.text.split() == ["/var/cache/own/x", "/tmp/x"]


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
