"""IPAddressAllow= and IPAddressDeny=: where a unit's packets may go.

systemd filters packets; here, where nobody may, the calls that name a peer are looked at before
they happen. So it holds for a program that is wrong, not for one that changes the address behind
our back, and what comes in is not filtered: a unit should bind to an address it may talk to.
"""

import contextlib
import errno
import fcntl
import ipaddress
import os
import select
import socket
import struct
from dataclasses import dataclass

import seccomp
from loop import Loop
from units import BadUnitError, Unit

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
NAMED = {
    "any": ("0.0.0.0/0", "::/0"),
    "localhost": ("127.0.0.0/8", "::1/128"),
    "link-local": ("169.254.0.0/16", "fe80::/64"),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
}
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
_NOTICE = struct.Struct("QIIiIQ6Q")
_ANSWER = struct.Struct("QqiI")
_MESSAGES = 64


@dataclass(frozen=True)
class Rules:
    """Allowed beats denied; what neither names may pass."""

    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()

    @classmethod
    def of(cls, unit: Unit) -> "Rules":
        """Raises BadUnitError."""
        return cls(_networks(unit, "IPAddressAllow"), _networks(unit, "IPAddressDeny"))

    def permits(self, address: Address) -> bool:
        plain = getattr(address, "ipv4_mapped", None) or address
        if plain.is_unspecified:  # the kernel takes it for the loopback address
            plain = ipaddress.ip_address("127.0.0.1" if plain.version == 4 else "::1")
        return any(plain in net for net in self.allow) or not any(plain in n for n in self.deny)


def _networks(unit: Unit, key: str) -> tuple[Network, ...]:
    found: list[Network] = []
    for word in unit.words("Service", key):
        try:
            found += [ipaddress.ip_network(text) for text in NAMED.get(word, (word,))]
        except ValueError as error:
            raise BadUnitError(f"Address prefix is invalid, ignoring assignment: {word}") from error
    return tuple(found)


class Gate:
    """Answers one unit's calls until its last process is gone."""

    def __init__(self, loop: Loop, listener: int, rules: Rules) -> None:
        self._loop, self._listener, self._rules = loop, listener, rules
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)
        loop.watch(listener, self._look)

    def _look(self) -> None:
        events = dict(self._poll.poll(0)).get(self._listener, 0)
        if events & select.POLLIN:
            self._answer()
        elif events:
            self._loop.forget(self._listener)
            os.close(self._listener)

    def _answer(self) -> None:
        notice = bytearray(_NOTICE.size)
        try:
            fcntl.ioctl(self._listener, _RECEIVE, notice)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINTR):  # it was killed meanwhile
                raise
            return
        number, pid, _, call, _, _, *arguments = _NOTICE.unpack(notice)
        allowed = all(self._rules.permits(peer) for peer in peers(pid, call, arguments))
        answer = (number, 0, 0, _CONTINUE) if allowed else (number, 0, -errno.EPERM, 0)
        with contextlib.suppress(FileNotFoundError):  # it was killed meanwhile
            fcntl.ioctl(self._listener, _SEND, _ANSWER.pack(*answer))


def peers(pid: int, call: int, arguments: list[int]) -> list[Address]:
    """Whom a call names; unreadable memory names nobody: the kernel will refuse it itself."""
    name = seccomp.NAMES[call]
    try:
        memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    except OSError:
        return []
    try:
        with contextlib.suppress(OSError):
            if name == "connect":
                return _peer(memory, arguments[1], arguments[2])
            if name == "sendto":
                return _peer(memory, arguments[4], arguments[5])
            count = 1 if name == "sendmsg" else min(arguments[2], _MESSAGES)
            return _of_messages(memory, arguments[1], count)
    finally:
        os.close(memory)
    return []


def _of_messages(memory: int, at: int, count: int) -> list[Address]:
    """struct msghdr is 56 bytes, struct mmsghdr 64; each begins with the peer's place and size."""
    found: list[Address] = []
    for index in range(count):
        place, size = struct.unpack("QI", os.pread(memory, 12, at + 64 * index))
        found += _peer(memory, place, size) if place else []
    return found


def _peer(memory: int, place: int, size: int) -> list[Address]:
    raw = os.pread(memory, min(size, 128), place)
    family = struct.unpack_from("H", raw)[0] if len(raw) >= 2 else socket.AF_UNSPEC
    if family in (socket.AF_INET, socket.AF_UNSPEC) and len(raw) >= 8:
        return [ipaddress.IPv4Address(raw[4:8])]
    if family == socket.AF_INET6 and len(raw) >= 24:
        return [ipaddress.IPv6Address(raw[8:24])]
    return []
