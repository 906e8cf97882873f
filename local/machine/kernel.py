"""The few Linux calls that Python 3.11 does not offer: namespaces, mounts, reboot.

Standard library only: the same file also runs inside a machine.
"""

import ctypes
import fcntl
import os
import signal
import struct
from collections.abc import Callable
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MACHINE_NAMESPACES = (
    CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWIPC
)

MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

UNPRIVILEGED_ID = 65534  # nobody, nogroup: who a machine is outside where we are root
# Where we are root a machine has more identities: what systemd hands out for DynamicUser= inside,
# and outside as many that no system gives to anybody.
DYNAMIC_IDS = range(61184, 61198)
_SPARE_ID = 65520
LOGIN_ID = 61300  # who logs in by SSH; outside the one before the spare ones
ENDED_POWER_OFF = 10  # exit statuses of a machine's cradle
ENDED_REBOOT = 11
ENDED_CRASH = 12
NIC = "ens4"  # as GCE's images call the first one
TUN_DEVICE = "/dev/net/tun"

RB_POWER_OFF = 0x4321FEDC
RB_AUTOBOOT = 0x01234567

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAPBSET_DROP = 24
_CAPSET_VERSION_3 = 0x20080522
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 1
_SYS_MOUNT_SETATTR = 442  # the same number on every architecture
_SYS_PIDFD_GETFD = 438
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags` for new ones."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def unshare_as_root(flags: int) -> None:
    """`unshare` with a user namespace among `flags`: root in it, our old self outside."""
    uid, gid = os.geteuid(), os.getegid()
    unshare(flags)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    arguments = [value.encode() or None for value in (source, target, kind)]
    data = options.encode() or None
    result = _libc.mount(*arguments, ctypes.c_ulong(flags), data)
    _check(result, f"mount {source or kind} on {target}")


def bind(source: str, target: str, *, read_only: bool = True) -> None:
    """Show the tree `source` at `target` too, with everything mounted in it."""
    mount(source, target, flags=MS_BIND | MS_REC)
    if read_only:
        freeze(target)


def freeze(target: str) -> None:
    """Make the mount at `target`, and every one below it, read-only."""
    _set_read_only(target, recursive=True)


def freeze_alone(target: str) -> None:
    """Make only the mount at `target` read-only."""
    _set_read_only(target, recursive=False)


def _set_read_only(target: str, *, recursive: bool) -> None:
    # struct mount_attr: attr_set, attr_clr, propagation, userns_fd
    buffer = struct.pack("QQQQ", _MOUNT_ATTR_RDONLY, 0, 0, 0)
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        target.encode(),
        ctypes.c_uint(_AT_RECURSIVE if recursive else 0),
        buffer,
        ctypes.c_size_t(len(buffer)),
    )
    _check(result, f"mount_setattr {target}")


def unmount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(target.encode(), ctypes.c_int(flags)), f"umount {target}")


def pivot_root(new_root: str) -> None:
    """Make `new_root` (a mount) the root, and let go of the old one altogether."""
    os.chdir(new_root)
    number = ctypes.c_long(_SYS_PIVOT_ROOT[os.uname().machine])
    _check(_libc.syscall(number, b".", b"."), "pivot_root")  # stacks the old root on the new one
    unmount(".", MNT_DETACH)
    os.chdir("/")


def die_with_parent() -> None:
    """SIGKILL us when the thread that made us ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0), "prctl")


def is_real_root() -> bool:
    """Root that can become somebody else: in a namespace that maps root alone it cannot."""
    return os.geteuid() == 0 and is_mapped(_SPARE_ID) and is_mapped(UNPRIVILEGED_ID)


def is_mapped(identity: int) -> bool:
    """Whether there is such a user, and such a group, in this user namespace."""
    return all(_in_map(identity, Path("/proc/self", name)) for name in ("uid_map", "gid_map"))


def _in_map(identity: int, path: Path) -> bool:
    rows = [[int(word) for word in line.split()] for line in path.read_text().splitlines()]
    return any(first <= identity < first + count for first, _, count in rows)


def enter(pid: int) -> None:
    """Be in another process's user and network namespaces, with every power there."""
    for name, flag in (("user", CLONE_NEWUSER), ("net", CLONE_NEWNET)):
        handle = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY)
        _check(_libc.setns(ctypes.c_int(handle), ctypes.c_int(flag)), f"setns {name}")
        os.close(handle)


def make_nic(device: int) -> int:
    """A network card for this network namespace: packets come and go by the descriptor returned.

    device: TUN_DEVICE, opened with O_PATH while it could be seen.
    """
    handle = os.open(f"/proc/self/fd/{device}", os.O_RDWR)
    fcntl.ioctl(handle, _TUNSETIFF, struct.pack("16sH22x", NIC.encode(), _IFF_TUN | _IFF_NO_PI))
    return handle


def identity_giver(then: Callable[[], None]) -> Callable[[], None]:
    """Call it as real root; what it returns, once we are nobody and in a user namespace of our own.

    A process that stays root meanwhile maps root there to nobody, and DYNAMIC_IDS to spare ones;
    then it enters our namespaces and does `then`.
    """
    asked, ask = os.pipe()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        os.close(ask)
        os._exit(_give_identities(parent, then) if os.read(asked, 1) else 0)
    os.close(asked)

    def give() -> None:
        os.write(ask, b"1")
        os.close(ask)
        if os.waitpid(child, 0)[1] != 0:
            raise OSError(1, "the machine's identities could not be mapped")

    return give


def _give_identities(pid: int, then: Callable[[], None]) -> int:
    rows = (
        (0, UNPRIVILEGED_ID, 1),
        (DYNAMIC_IDS.start, _SPARE_ID, len(DYNAMIC_IDS)),
        (LOGIN_ID, _SPARE_ID - 1, 1),
    )
    text = "".join(f"{inside} {outside} {count}\n" for inside, outside, count in rows)
    try:
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text(text)
        enter(pid)
    except OSError:
        return 1
    then()
    return 0


def become(uid: int, gid: int) -> None:
    """Give up root for an unprivileged identity; /proc/self stays ours to write."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    _check(_libc.prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(1), 0, 0, 0), "prctl")


def switch_to(number: int) -> None:
    """Become this uid and gid, in no other group; the powers of root go with root."""
    os.setgroups([])
    os.setresgid(number, number, number)
    os.setresuid(number, number, number)


def become_login() -> None:
    """Be LOGIN_ID: really where the host lends that identity, else as a name for our own.

    In the second case what root owns is the login's own too: the host knows one user only.
    """
    if is_mapped(LOGIN_ID):
        switch_to(LOGIN_ID)
        return
    unshare(CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{LOGIN_ID} 0 1")
    Path("/proc/self/gid_map").write_text(f"{LOGIN_ID} 0 1")


def bound_capabilities(kept: frozenset[int]) -> None:
    """Nothing that is started from here on gains a capability but those in `kept`."""
    for capability in {*range(64)} - kept:  # past the last that this kernel knows it only fails
        _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0)


def drop_capabilities() -> None:
    """Keep the uid, lose every power that comes with it."""
    header = struct.pack("Ii", _CAPSET_VERSION_3, 0)
    _check(_libc.capset(header, bytes(24)), "capset")


def forbid_new_privileges() -> None:
    """No set-uid program gives any, for good."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0), "prctl")


def seccomp(operation: int, flags: int, program: bytes) -> int:
    """seccomp(2) with a filter: eight bytes an instruction."""
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    result = _libc.syscall(
        ctypes.c_long(_SYS_SECCOMP[os.uname().machine]),
        ctypes.c_uint(operation),
        ctypes.c_uint(flags),
        header,
    )
    _check(min(int(result), 0), "seccomp")
    return int(result)


def descriptor_of(pid: int, number: int) -> int:
    """Our own copy of another process's descriptor: pidfd_getfd(2)."""
    process = os.pidfd_open(pid)
    try:
        result = _libc.syscall(ctypes.c_long(_SYS_PIDFD_GETFD), process, number, 0)
    finally:
        os.close(process)
    _check(min(int(result), 0), "pidfd_getfd")
    return int(result)


def reboot(command: int) -> None:
    """reboot(2): in a machine's pid namespace it ends that namespace, nothing else."""
    _check(_libc.reboot(ctypes.c_int(command)), "reboot")
