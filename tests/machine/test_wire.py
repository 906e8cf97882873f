"""The network between machines: what the firewall lets pass arrives, and nothing else does."""

import socket
import struct
from pathlib import Path

import pytest

from local.machine import wire
from tests.machine.conftest import instance

SERVE = """#!/bin/bash
exec python3 -c '
import socket
server = socket.create_server(("", 7000))
print("listening", flush=True)
while True:
    connection, (address, _) = server.accept()
    connection.sendall(address.encode())
    connection.close()
'
"""
ASK = """#!/bin/bash
python3 - <<'END'
import socket
try:
    with socket.create_connection(("10.10.0.2", {port}), {patience_s}) as connection:
        print("answer", connection.recv(100).decode(), flush=True)
except OSError as error:
    print("answer", type(error).__name__, flush=True)
END
"""


def two(boot, permits, *, port=7000, patience_s=20, **second):
    """A machine that serves on port 7000, and one that asks it; returns what the second heard."""
    first = boot(SERVE)
    first.machines.permits = permits
    first.console("listening")
    script = ASK.format(port=port, patience_s=patience_s)
    fields = {"id": "7", "name": "mayfly-other", "networkInterfaces": nic("10.10.0.7"), **second}
    first.machines.boot(instance(script, **fields))
    console = first.machines.wait_for_serial("7", "Finished running startup scripts", 60)
    return console.partition("answer ")[2].split()[0]


def nic(address, network="mayfly"):
    return [{"network": f"global/networks/{network}", "networkIP": address}]


def test_machine_answers_another_when_the_firewall_lets_it(boot):
    """The rule is asked once, with who begins, to whom, and where."""
    asked = []

    def permits(*packet):
        asked.append(packet)
        return True

    assert two(boot, permits) == "10.10.0.7"
    assert asked == [("7", "4611686018427387904", "tcp", 7000)]


def test_machine_hears_nothing_when_no_rule_lets_it(boot):
    """A network that is open by mistake shows here, not in an audit."""
    assert two(boot, lambda *_: False, patience_s=1) == "TimeoutError"


def test_machine_hears_nothing_when_the_other_is_in_another_network(boot):
    """The same address, another wire: subnets of two networks may overlap."""
    fields = {"networkInterfaces": nic("10.10.0.7", "other")}

    assert two(boot, lambda *_: True, patience_s=1, **fields) == "TimeoutError"


def test_machine_is_refused_by_the_other_when_nobody_listens_there(boot):
    """It is the other's kernel that answers, not the wire."""
    assert two(boot, lambda *_: True, port=7001) == "ConnectionRefusedError"


class Ends:
    """Two machines' cards as datagram sockets: a test writes and reads their packets."""

    def __init__(self, permits):
        self.wire = wire.Wire(permits)
        self.cards = {}

    def plug(self, machine, address, network="mayfly"):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.settimeout(0.3)
        self.cards[machine] = ours
        self.wire.plug(wire.Port(machine, network, address), theirs.detach())

    def arrives(self, packet, sender, target):
        self.cards[sender].send(packet)
        try:
            return self.cards[target].recv(100) == packet
        except TimeoutError:
            return False

    def close(self):
        self.wire.close()
        for card in self.cards.values():
            card.close()


@pytest.fixture
def ends():
    made = []

    def make(permits=lambda *_: True):
        made.append(Ends(permits))
        made[-1].plug("a", "10.0.0.1")
        made[-1].plug("b", "10.0.0.2")
        return made[-1]

    yield make
    for one in made:
        one.close()


def tcp(source, target, flags=wire._SYN, ports=(1000, 80), fragment=0):
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, fragment, 64, socket.IPPROTO_TCP, 0)
    segment = struct.pack("!HHIIBBHHH", *ports, 0, 0, 0x50, flags, 0, 0, 0)
    return header + addresses + segment


def test_answer_passes_when_what_it_answers_did(ends):
    """The rule is about who begins."""
    found = ends(lambda source, *_: source == "a")

    back = tcp("10.0.0.2", "10.0.0.1", wire._SYN | wire._ACK, ports=(80, 1000))
    assert not found.arrives(back, "b", "a")
    assert found.arrives(tcp("10.0.0.1", "10.0.0.2"), "a", "b")
    assert found.arrives(back, "b", "a")
    assert not found.arrives(tcp("10.0.0.2", "10.0.0.1"), "b", "a")


@pytest.mark.parametrize(
    "packet",
    [
        tcp("10.0.0.9", "10.0.0.2"),
        tcp("10.0.0.1", "10.0.0.9"),
        tcp("10.0.0.1", "10.0.0.2", wire._ACK),
        tcp("10.0.0.1", "10.0.0.2", fragment=1),
        tcp("10.0.0.1", "10.0.0.2")[:30],
        b"\x60" + bytes(60),
        b"",
    ],
)
def test_packet_is_dropped_when_it_is_none_that_google_would_carry(ends, packet):
    """A forged sender above all: an address is what the firewall goes by."""
    found = ends()
    if packet:
        assert not found.arrives(packet, "a", "b")
    assert found.arrives(tcp("10.0.0.1", "10.0.0.2"), "a", "b")


def test_nothing_passes_when_a_machine_is_cut_off(ends):
    """Neither way, and the others go on."""
    found = ends()
    found.plug("c", "10.0.0.3")
    found.wire.cut("b")

    assert not found.arrives(tcp("10.0.0.1", "10.0.0.2"), "a", "b")
    assert not found.arrives(tcp("10.0.0.2", "10.0.0.1"), "b", "a")
    assert found.arrives(tcp("10.0.0.1", "10.0.0.3"), "a", "c")


def test_wire_holds_nothing_when_it_is_closed(ends):
    """A descriptor left behind by each local cloud would end a long test run."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    made = Ends(lambda *_: True)
    made.plug("a", "10.0.0.1")
    made.close()
    made.wire.close()  # twice is fine

    assert len(list(Path("/proc/self/fd").iterdir())) == before
