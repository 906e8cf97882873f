"""The network between machines: carries each packet whose network and firewall let it pass.

A packet that a rule refuses, or for which there is nobody, is dropped without a word, as at Google.
"""

import contextlib
import os
import select
import socket
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

LARGEST_PACKET = 65536
KNOWN_FLOWS = 65536
PROTOCOLS = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp", socket.IPPROTO_ICMP: "icmp"}
_SYN, _ACK = 0x02, 0x10

Permits = Callable[[str, str, str, int], bool]
"""(from, to, "tcp", port): whether a machine may begin to talk to another, both by their ids."""


@dataclass(frozen=True)
class Port:
    """Where a machine is plugged in. network: its name; addresses are one network's only."""

    machine: str
    network: str
    address: str


@dataclass(frozen=True)
class Packet:
    """What is looked at of an IPv4 packet. begins: the first of a TCP connection."""

    protocol: str
    source: str
    source_port: int
    target: str
    target_port: int
    begins: bool

    @property
    def flow(self) -> tuple[str, str, int, str, int]:
        return self.protocol, self.source, self.source_port, self.target, self.target_port

    @property
    def answered(self) -> tuple[str, str, int, str, int]:
        return self.protocol, self.target, self.target_port, self.source, self.source_port


def parse(data: bytes) -> Packet | None:
    """None for what no machine of ours sends: IPv6, other protocols, fragments, cut headers."""
    if len(data) < 20 or data[0] >> 4 != 4:
        return None
    header, name = 4 * (data[0] & 15), PROTOCOLS.get(data[9])
    if name is None or len(data) < header + 8 or struct.unpack_from("!H", data, 6)[0] & 0x3FFF:
        return None
    source, target = (socket.inet_ntoa(data[at : at + 4]) for at in (12, 16))
    if name == "icmp":
        return Packet(name, source, 0, target, 0, begins=True)
    source_port, target_port = struct.unpack_from("!HH", data, header)
    begins = name == "udp" or (
        len(data) > header + 13 and data[header + 13] & (_SYN | _ACK) == _SYN
    )
    return Packet(name, source, source_port, target, target_port, begins)


class Wire:
    """One switch for all networks; its thread runs from the first plug to `close`."""

    def __init__(self, permits: Permits) -> None:
        self._permits = permits
        self._lock = threading.RLock()
        self._ports: dict[int, Port] = {}
        self._cut: set[str] = set()
        self._flows: OrderedDict[tuple[object, ...], None] = OrderedDict()
        self._runs: tuple[threading.Thread, select.epoll, int] | None = None

    def plug(self, port: Port, nic: int) -> None:
        """Carry this machine's packets from now on; the descriptor is ours. After a boot, again."""
        with self._lock:
            self.unplug(port.machine)
            os.set_blocking(nic, False)
            self._ports[nic] = port
            self._poll().register(nic, select.EPOLLIN)

    def unplug(self, machine: str) -> None:
        with self._lock:
            for nic in [nic for nic, port in self._ports.items() if port.machine == machine]:
                del self._ports[nic]
                self._poll().unregister(nic)
                os.close(nic)
            self._cut.discard(machine)

    def cut(self, machine: str) -> None:
        """The machine's cable is out, both ways, until it boots again: nobody is told."""
        with self._lock:
            self._cut.add(machine)

    def close(self) -> None:
        """Unplug everything and end the thread."""
        with self._lock:
            for port in list(self._ports.values()):
                self.unplug(port.machine)
            runs, self._runs = self._runs, None
        if runs is not None:
            thread, poll, waker = runs
            os.close(waker)
            thread.join()
            poll.close()

    def _poll(self) -> select.epoll:
        if self._runs is None:
            poll, (wake, waker) = select.epoll(), os.pipe2(os.O_CLOEXEC)
            poll.register(wake, select.EPOLLIN)
            thread = threading.Thread(target=self._run, args=(poll, wake), daemon=True)
            thread.start()
            self._runs = thread, poll, waker
        return self._runs[1]

    def _run(self, poll: select.epoll, wake: int) -> None:
        """Until the other end of `wake` is closed."""
        while True:
            for handle, _ in poll.poll():
                if handle == wake:
                    os.close(wake)
                    return
                with self._lock:
                    if handle in self._ports:
                        self._carry(handle)

    def _carry(self, nic: int) -> None:
        try:
            data = os.read(nic, LARGEST_PACKET)
        except OSError:  # it is on its way out, or another packet's reader was faster
            return
        sender, packet = self._ports[nic], parse(data)
        if packet is None or packet.source != sender.address:
            return
        for other, port in self._ports.items():
            if (port.network, port.address) == (sender.network, packet.target):
                if not {sender.machine, port.machine} & self._cut and self._may(
                    packet, sender, port
                ):
                    with contextlib.suppress(OSError):  # its queue is full: a packet is lost
                        os.write(other, data)
                return

    def _may(self, packet: Packet, sender: Port, target: Port) -> bool:
        """A rule is asked for the first packet of a flow; what answers belongs to it."""
        flow, answered = ((sender.network, *way) for way in (packet.flow, packet.answered))
        if flow in self._flows or answered in self._flows:
            return True
        if not packet.begins or not self._permits(
            sender.machine, target.machine, packet.protocol, packet.target_port
        ):
            return False
        self._flows[flow] = None
        if len(self._flows) > KNOWN_FLOWS:
            self._flows.popitem(last=False)
        return True
