"""What a unit's processes may ask of the kernel, as filters that outlive every exec.

Most rules are a filter's own. IPAddressDeny= is not: a filter sees no addresses, so it asks
process 1, which looks them up in the caller's memory (addresses.py).
"""

import os
import socket
import struct
from collections.abc import Iterable

import kernel
from units import Unit

_MACHINE = os.uname().machine
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[_MACHINE]
_X32 = 0x40000000
_NUMBERS = {
    "x86_64": {
        **{"socket": 41, "connect": 42, "sendto": 44, "sendmsg": 46, "sendmmsg": 307},
        **{"clone": 56, "unshare": 272, "setns": 308, "clone3": 435, "syslog": 103},
        **{"chmod": 90, "fchmod": 91, "fchmodat": 268, "fchmodat2": 452},
        "io_uring_setup": 425,
    },
    "aarch64": {
        **{"socket": 198, "connect": 203, "sendto": 206, "sendmsg": 211, "sendmmsg": 269},
        **{"clone": 220, "unshare": 97, "setns": 268, "clone3": 435, "syslog": 116},
        **{"fchmod": 52, "fchmodat": 53, "fchmodat2": 452},
        "io_uring_setup": 425,
    },
}
NUMBERS = _NUMBERS[_MACHINE]
NAMES = {number: name for name, number in NUMBERS.items()}
_NEW_NAMESPACES = 0x7E020000 | 0x80  # every CLONE_NEW*, that of time too
_SUID_SGID = 0o6000

_ALLOW, _ASK, _KILL = 0x7FFF0000, 0x7FC00000, 0x80000000
_EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 38, 97
_LOAD, _EQUAL, _AND, _RETURN, _AT_LEAST = 0x20, 0x15, 0x54, 0x06, 0x35
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_SET_FILTER, _NEW_LISTENER = 1, 8

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, value


def error(number: int) -> int:
    return 0x00050000 | number


def argument(index: int, *, high: bool = False) -> Instruction:
    return (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * index + (4 if high else 0))


def on(name: str, body: list[Instruction]) -> list[Instruction]:
    """`body`, which must return, for one system call."""
    number: Instruction = (_LOAD, 0, 0, _NUMBER_AT)
    return [number, (_EQUAL, 0, len(body), NUMBERS[name]), *body] if name in NUMBERS else []


def always(result: int) -> list[Instruction]:
    return [(_RETURN, 0, 0, result)]


def if_any_bit(index: int, bits: int, result: int) -> list[Instruction]:
    return [
        argument(index),
        (_AND, 0, 0, bits),
        (_EQUAL, 1, 0, 0),
        *always(result),
        *always(_ALLOW),
    ]


def families(words: Iterable[str]) -> list[Instruction]:
    """RestrictAddressFamilies=: the families that may be opened, or with ~ those that may not."""
    listed = list(words)
    refused = bool(listed) and listed[0].startswith("~")
    values = [int(getattr(socket, word.removeprefix("~"))) for word in listed if word != "none"]
    found, otherwise = (error(_EAFNOSUPPORT), _ALLOW) if refused else (_ALLOW, error(_EAFNOSUPPORT))
    body = [argument(0)]
    for value in values:
        body += [(_EQUAL, 0, 1, value), *always(found)]
    return on("socket", [*body, *always(otherwise)])


def rules(unit: Unit) -> list[Instruction]:
    """What the unit file asks for, without IPAddressDeny=."""
    found: list[Instruction] = []
    if unit.words("Service", "RestrictAddressFamilies"):
        found += families(unit.words("Service", "RestrictAddressFamilies"))
    if unit.flag("RestrictNamespaces"):
        found += on("clone", if_any_bit(0, _NEW_NAMESPACES, error(_EPERM)))
        found += on("unshare", if_any_bit(0, _NEW_NAMESPACES, error(_EPERM)))
        found += on("setns", always(error(_EPERM)))
        found += on("clone3", always(error(_ENOSYS)))  # its flags lie in memory; clone does as well
    if unit.flag("RestrictSUIDSGID") or unit.flag("DynamicUser"):
        for name, index in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("fchmodat2", 2)):
            found += on(name, if_any_bit(index, _SUID_SGID, error(_EPERM)))
    if unit.flag("ProtectKernelLogs"):
        found += on("syslog", always(error(_EPERM)))
    return found


def native_only() -> list[Instruction]:
    """SystemCallArchitectures=native."""
    return [
        *((_LOAD, 0, 0, _NUMBER_AT), (_AT_LEAST, 0, 1, _X32), *always(_KILL)),
        *((_LOAD, 0, 0, _ARCHITECTURE_AT), (_EQUAL, 1, 0, _ARCHITECTURE), *always(_KILL)),
    ]


def ask_for_addresses() -> list[Instruction]:
    """The calls that name a peer; `send` on a connected socket does not and is not slowed.

    What a ring asks of the kernel no filter sees: there is none, as with kernel.io_uring_disabled.
    """
    named = [argument(4), (_EQUAL, 0, 1, 0), argument(4, high=True), (_EQUAL, 1, 0, 0)]
    to = [*named, *always(_ASK), *always(_ALLOW)]
    rest = [on(name, always(_ASK)) for name in ("connect", "sendmsg", "sendmmsg")]
    ring = on("io_uring_setup", always(error(_EPERM)))
    return [*on("sendto", to), *(item for part in rest for item in part), *ring]


def foreign_passes(body: list[Instruction]) -> list[Instruction]:
    """Numbers mean nothing in another architecture's calls: those are let through here."""
    return [
        *((_LOAD, 0, 0, _ARCHITECTURE_AT), (_EQUAL, 1, 0, _ARCHITECTURE), *always(_ALLOW)),
        *body,
        *always(_ALLOW),
    ]


def restrict(unit: Unit) -> None:
    """Put the unit's filters on this process and all it starts."""
    if unit.value("SystemCallArchitectures") == "native":
        kernel.seccomp(_SET_FILTER, 0, program([*native_only(), *always(_ALLOW)]))
    found = rules(unit)
    if found:
        kernel.seccomp(_SET_FILTER, 0, program(foreign_passes(found)))


def listen() -> int:
    """Put the filter that asks on this process; the descriptor where it asks."""
    return kernel.seccomp(_SET_FILTER, _NEW_LISTENER, program(foreign_passes(ask_for_addresses())))


def program(instructions: list[Instruction]) -> bytes:
    return b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
