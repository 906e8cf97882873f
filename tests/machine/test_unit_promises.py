"""What vLLM's unit promises, tried from inside it; and each promise's directive taken away."""

import json
import shlex

import pytest

from local.machine import Image, Machines
from tests.machine import outcome
from tests.machine.conftest import NUMBER, PROJECT, Booted, instance
from tests.machine.vllm_server import ROOT

UNIT = "/run/systemd/system/mayfly-vllm.service"
PREPARE = f"""mkdir -p /opt/mayfly /opt/mayfly-engine/env/bin /run/mayfly /run/systemd/system
mkdir -p /mnt/mayfly /var/log/mayfly /root/.config /home/user /etc/cron.d
mount -t tmpfs -o size=1m weights /mnt/mayfly
mkdir /mnt/mayfly/weights
(umask 077; mkdir /run/mayfly-key
  echo VLLM_API_KEY=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' ') >/run/mayfly-key/env)
cp -r {ROOT}/startup /opt/mayfly/
cp {ROOT}/tests/machine/unit_probe.py /opt/mayfly-engine/env/bin/vllm
sed -i '1i #!/usr/bin/python3' /opt/mayfly-engine/env/bin/vllm
chmod 755 /opt/mayfly-engine/env/bin/vllm
echo secret | tee /root/.config/token /home/user/notes >/tmp/of-the-machine
touch /mnt/mayfly/weights/model-00001-of-000064.safetensors /run/mayfly/phase
cat >/run/mayfly/env <<X
MAYFLY_PORT=8000
MAYFLY_SERVED_MODEL=kimi-k2.5
MAYFLY_SERVE_FLAGS=[]
MAYFLY_LOAD_FORMAT=safetensors
MAYFLY_WEIGHTS_URI=gs://weights/kimi
MAYFLY_START_S=600
X
cp {ROOT}/startup/mayfly-vllm.service {UNIT}
chmod -R a+w /mnt/mayfly /opt/mayfly /opt/mayfly-engine /run/mayfly {UNIT}
python3 -m http.server --bind 127.0.0.1 9000 </dev/null >/dev/null 2>&1 &
for i in $(seq 600); do (: </dev/tcp/127.0.0.1/9000) 2>/dev/null && break; sleep 0.1; done"""
START = "systemctl daemon-reload; systemctl reset-failed; systemctl restart mayfly-vllm"
PID = "$(systemctl show -p MainPID --value mayfly-vllm)"
SAID = "for i in $(seq 600); do grep found /var/log/mayfly/vllm.log && break; sleep 0.1; done"
TREES = {"trees": [ROOT / "startup", ROOT / "tests/machine"]}


def attempts(spoil="true"):
    """Start the unit, with something changed, and read what its vLLM could do."""
    return f"{spoil}; : >/var/log/mayfly/vllm.log; {START}; {SAID}; cp /opt/unit {UNIT}"


def without(*directives):
    return f"sed -i -E '/^({'|'.join(directives)})=/d' {UNIT}"


NOT_PERMITTED, READ_ONLY = "Operation not permitted", "Read-only file system"
DENIED, MISSING = "Permission denied", "No such file or directory"
REFUSED, NO_ROUTE = "Connection refused", "Network is unreachable"
HIDDEN = f"{DENIED} | {MISSING}"  # the latter where this host's interpreter lies there
NO_FAMILY = "Address family not supported by protocol"
NO_RING = f"Bad address | {NOT_PERMITTED} | Function not implemented"  # the host's own word
NETWORK = ("IPAddressDeny", "IPAddressAllow")
USER = ("DynamicUser", "ReadOnlyPaths", "ProtectHome", "ProtectKernelTunables")

# What is tried, what comes of it, without which directives, and what then.
PROMISES = [
    ("token", NOT_PERMITTED, NETWORK, "done"),
    ("own address", NOT_PERMITTED, NETWORK, REFUSED),
    ("internet", NOT_PERMITTED, NETWORK, NO_ROUTE),
    ("name server", NOT_PERMITTED, NETWORK, "done"),
    ("ring", NOT_PERMITTED, NETWORK, NO_RING),
    ("packets", NO_FAMILY, ("RestrictAddressFamilies",), NOT_PERMITTED),
    ("namespace", NOT_PERMITTED, ("RestrictNamespaces",), "done"),
    ("write weights", READ_ONLY, USER, "done"),
    ("write code", READ_ONLY, USER, "done"),
    ("write engine", READ_ONLY, USER, "done"),
    ("write settings", READ_ONLY, USER, "done"),
    ("write phase", READ_ONLY, USER, "done"),
    ("write units", READ_ONLY, USER, "done"),
    ("write cron", READ_ONLY, USER, "done"),
    ("read key", DENIED, USER, "done"),
    ("read passwords", DENIED, USER, "done"),
    ("read root's home", HIDDEN, USER, "done"),
    ("read a home", HIDDEN, ("ProtectHome",), "done"),
    ("read process 1", DENIED, ("CapabilityBoundingSet", *USER), "done"),
    ("read the machine's tmp", MISSING, USER, "done"),
]
NEEDED = ("localhost", "own program", "write cache", "write tmp", "write shared memory")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """directives taken away -> attempt -> what came of it; () is the unit as it is."""
    cases = list(dict.fromkeys([(), *(promise[2] for promise in PROMISES)]))
    commands = [f"{PREPARE}; cp {UNIT} /opt/unit"]
    commands += [attempts(without(*case) if case else "true") for case in cases]
    image = Image(project_id=PROJECT, project_number=NUMBER, **TREES)
    machines = Machines(tmp_path_factory.mktemp("machine"), image, {})
    try:
        machine = Booted(machines, instance()["id"])
        machines.boot(instance(outcome.script(commands)))
        _, *said = machine.outcomes(commands)
    finally:
        machines.close()
    return {case: last_json(item.text) for case, item in zip(cases, said, strict=True)}


def last_json(text):
    assert "{" in text, text
    return json.loads(text.splitlines()[-1])["found"]


@pytest.mark.parametrize(("what", "kept", "_directives", "_then"), PROMISES)
def test_unit_keeps_its_promise_when_vllm_tries(found, what, kept, _directives, _then):
    """Whoever gets vLLM to run their code, or to fetch their address, gets no further."""
    assert found[()][what] in kept.split(" | ")


@pytest.mark.parametrize(("what", "_kept", "directives", "then"), PROMISES)
def test_attempt_gets_further_when_its_directive_is_taken_away(
    found, what, _kept, directives, then
):
    """Else the promise would be kept by chance, and a lost line would not be missed."""
    assert found[directives][what] in then.split(" | ")


@pytest.mark.parametrize("what", NEEDED)
def test_unit_leaves_vllm_what_it_needs(found, what):
    """Confined to death is no service either."""
    assert found[()][what] == "done"


INJECT = """cat >>/run/mayfly/env <<X
NCCL_NET=gIB
NCCL_TUNER_CONFIG_PATH=/x
LD_LIBRARY_PATH=/usr/local/gib/lib64
X
systemctl set-environment NCCL_NET_PLUGIN=libnccl-gib.so NCCL_CROSS_NIC=0 VLLM_SERVER_DEV_MODE=1"""
EFFECTIVE = f"tr '\\0' '\\n' </proc/{PID}/environ"
NCCL = {
    *("NCCL_ENV_PLUGIN=none", "NCCL_NET_PLUGIN=none", "NCCL_TUNER_PLUGIN=none"),
    *("NCCL_NET=Socket", "NCCL_IB_DISABLE=1", "NCCL_SOCKET_IFNAME=lo"),
}


@pytest.mark.parametrize("kept", [True, False])
def test_vllm_runs_with_our_nccl_settings_when_the_machine_says_otherwise(run, kept):
    """Twin: with our file read first instead of last, the machine's word would count."""
    ours = "EnvironmentFile=/opt/mayfly/startup/mayfly-vllm.env"
    first = f"sed -i -e '\\#^{ours}#d' -e 's#^EnvironmentFile=/run/mayfly/env#{ours}\\n&#' {UNIT}"
    commands = [PREPARE, INJECT, "true" if kept else first, START, EFFECTIVE]

    *_, effective = run(commands, image=TREES)

    lines = effective.text.splitlines()
    unset = ("NCCL_TUNER_CONFIG_PATH=", "NCCL_CROSS_NIC=", "LD_LIBRARY_PATH=", "VLLM_SERVER_DEV")
    assert not [line for line in lines if line.startswith(unset)]
    assert set(lines) >= (NCCL if kept else NCCL - {"NCCL_NET=Socket"} | {"NCCL_NET=gIB"})


HUNT = f"""cut -d = -f 2 /run/mayfly-key/env >/root/key
systemctl show mayfly-vllm | grep -c -f /root/key
cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c -f /root/key
find /run /etc /opt /var /mnt /tmp 2>/dev/null -path /run/mayfly-key -prune -o \
  -type f -perm -o+r -print0 | xargs -0 grep -l -f /root/key
stat -c %a /proc/{PID}/environ"""
LEAK = "cat /run/mayfly-key/env >>/run/mayfly/env"


@pytest.mark.parametrize("leak", ["", LEAK])
def test_key_is_nowhere_that_another_user_can_read_when_vllm_runs(run, leak):
    """Who has a shell on the VM, but not root's, has no key."""
    commands = [PREPARE, leak or "true", START, SAID, HUNT]

    *_, hunt = run(commands, image=TREES)

    assert hunt.text.splitlines() == ["0", "0", *(["/run/mayfly/env"] if leak else []), "400"]


STUBBORN = """#!/usr/bin/python3
import os, signal, socket, time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
server = socket.create_server(("127.0.0.1", 8000))
print("found", flush=True)
if os.fork() == 0:
    os.setsid()
    os.environ.clear()
    os.execve("/usr/bin/python3", ["held", "-c", "import time; time.sleep(600)"], {})
stream, _ = server.accept()
while True:
    stream.send(b"data: x\\n\\n")
    time.sleep(0.1)
"""
HOLD = (
    "(exec 3<>/dev/tcp/127.0.0.1/8000; cat <&3 >/root/stream; echo closed >/root/end) & sleep 0.5"
)
STOP = """systemctl stop --no-block mayfly-vllm &
for i in $(seq {tries}); do
  [ -e /root/end ] && ! pgrep -f 'time.sleep.600' && break; sleep 0.1
done
cat /root/end; [ -s /root/stream ] && echo streamed; pgrep -c -f 'time.sleep.600'"""


@pytest.mark.parametrize(("stop_s", "tries"), [("1", 300), ("600", 50)])
def test_held_stream_does_not_outlive_the_stop_when_vllm_ignores_term(run, stop_s, tries):
    """Half a minute of grace is enough; for ever would hold up the shutdown of eight GPUs."""
    quick = f"sed -i s/^TimeoutStopSec=20/TimeoutStopSec={stop_s}/ {UNIT}"
    program = f"printf %s {shlex.quote(STUBBORN)} >/opt/mayfly-engine/env/bin/vllm"
    began = f"{START}; {SAID}; {HOLD}"
    commands = [PREPARE, f"{program}; {quick}", began, STOP.format(tries=tries)]

    *_, stop = run(commands, image=TREES)

    said = stop.text.splitlines()
    assert said[-3:] == ["closed", "streamed", "0"] if stop_s == "1" else "closed" not in said
