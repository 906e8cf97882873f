"""Who a unit's processes are, and which powers they keep."""

import zlib
from dataclasses import dataclass

import kernel
from units import BadUnitError, Unit

CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID"),
    *("SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW"),
    *("IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT"),
    *("SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD"),
    *("LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG"),
    *("WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE"),
)  # in the kernel's order


@dataclass(frozen=True)
class Identity:
    """number: uid and gid. shared: it should be the unit's own, but the host lends a machine one
    only: then root's powers are taken away and what root keeps to itself is hidden."""

    name: str
    number: int = 0
    shared: bool = False

    @property
    def is_root(self) -> bool:
        return self.number == 0 and not self.shared


ROOT = Identity("root")


def identity_of(unit: Unit) -> Identity:
    """Root, or the user that DynamicUser= makes: the same number for the same unit."""
    if not unit.flag("DynamicUser"):
        return ROOT
    name = unit.name.rpartition(".")[0]
    choice = zlib.crc32(name.encode()) % len(kernel.DYNAMIC_IDS)
    number = kernel.DYNAMIC_IDS[choice]
    return Identity(name, number) if kernel.is_mapped(number) else Identity(name, shared=True)


def assume(unit: Unit, identity: Identity) -> None:
    """Become `identity`, with no more powers than CapabilityBoundingSet= and Protect* leave it."""
    kernel.bound_capabilities(frozenset() if identity.shared else kept_capabilities(unit))
    if identity.number:
        kernel.switch_to(identity.number)
    if not identity.is_root:
        kernel.drop_capabilities()
    if not identity.is_root or unit.flag("NoNewPrivileges"):
        kernel.forbid_new_privileges()


def kept_capabilities(unit: Unit) -> frozenset[int]:
    """By number. Raises BadUnitError."""
    kept = set(CAPABILITIES)
    lines = unit.sections.get("Service", {}).get("CapabilityBoundingSet", [])
    for index, line in enumerate(lines):
        named = {_capability(word) for word in line.removeprefix("~").split()}
        if line.startswith("~"):
            kept -= named
        else:
            kept = named if index == 0 or not line else kept | named
    for guard, lost in (("ProtectKernelModules", "SYS_MODULE"), ("ProtectKernelLogs", "SYSLOG")):
        if unit.flag(guard):
            kept -= {lost}
    return frozenset(CAPABILITIES.index(name) for name in kept)


def _capability(word: str) -> str:
    name = word.removeprefix("CAP_")
    if name not in CAPABILITIES or name == word:
        raise BadUnitError(f"Failed to parse capability in bounding set, ignoring: {word}")
    return name
