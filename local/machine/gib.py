"""Google's NCCL plugin in all the places where images carry it."""

import struct

DIRECTORY = "/usr/local/gib"
VARIABLES = {
    "NCCL_NET": "gIB",
    "NCCL_TUNER_CONFIG_PATH": f"{DIRECTORY}/configs/tuner_config_a3.txtpb",
    "NCCL_CROSS_NIC": "0",
    "NCCL_NET_GDR_LEVEL": "PIX",
    "NCCL_P2P_NET_CHUNKSIZE": "131072",
    "NCCL_NVLS_CHUNKSIZE": "524288",
    "NCCL_IB_ADAPTIVE_ROUTING": "1",
    "NCCL_IB_QPS_PER_CONNECTION": "4",
    "NCCL_IB_TC": "52",
    "NCCL_IB_FIFO_TC": "84",
    "LD_LIBRARY_PATH": f"{DIRECTORY}/lib64",
}
LIBRARIES = ("libnccl-net_internal.so", "libnccl-tuner.so", "libnccl-env.so")
_PAGE = 0x1000


def shared_object(name: str) -> bytes:
    """The smallest ELF library that the linker's cache takes up: a SONAME and nothing else."""
    strings = b"\0" + name.encode() + b"\0"
    header, entry = 64, 56
    dynamic_at = header + 2 * entry
    strings_at = dynamic_at + 4 * 16
    tags = ((5, strings_at), (10, len(strings)), (14, 1), (0, 0))  # STRTAB STRSZ SONAME NULL
    dynamic = b"".join(struct.pack("<QQ", tag, value) for tag, value in tags)
    size = strings_at + len(strings)
    identity = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    elf = identity + struct.pack(
        "<HHIQQQIHHHHHH", 3, 62, 1, 0, header, 0, 0, header, entry, 2, 64, 0, 0
    )
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, size, size, _PAGE)
    points = struct.pack(
        "<IIQQQQQQ", 2, 6, dynamic_at, dynamic_at, dynamic_at, len(dynamic), len(dynamic), 8
    )
    return elf + load + points + dynamic + strings


EXPORTS = "".join(f"export {name}={value}\n" for name, value in VARIABLES.items())
SETTINGS = "".join(f"{name}={value}\n" for name, value in VARIABLES.items())
WORDS = " ".join(f'"{name}={value}"' for name, value in VARIABLES.items())
SYSTEMD = "/etc/systemd"


def plugin() -> dict[str, str | bytes]:
    """The plugin itself."""
    return {
        **{f"{DIRECTORY}/lib64/{name}": shared_object(name) for name in LIBRARIES},
        f"{DIRECTORY}/scripts/set_nccl_env.sh": f"#!/bin/bash\n{EXPORTS}",
        f"{DIRECTORY}/configs/tuner_config_a3.txtpb": "# tuner\n",
        f"{DIRECTORY}/configs/guest_config.txtpb": "# guest\n",
    }


def setter() -> dict[str, str | bytes]:
    """A unit of the image's that hands its settings to systemd at each boot."""
    return {
        "/var/lib/machine/units/google-nccl-env.service": (
            "[Unit]\nDescription=NCCL settings\n[Service]\nType=oneshot\nRemainAfterExit=yes\n"
            f"ExecStart=/.machine/bin/systemctl set-environment {WORDS}\n"
        )
    }


# What an image may carry, each by the name that the setting `gib` has for it.
FORMS: dict[str, dict[str, str | bytes]] = {
    "plugin": plugin(),
    "ld.so.conf.d": {"/etc/ld.so.conf.d/nccl-gib.conf": f"{DIRECTORY}/lib64\n"},
    "profile.d": {
        "/etc/profile.d/nccl-gib.sh": f"source {DIRECTORY}/scripts/set_nccl_env.sh\n",
        "/etc/profile.d/nccl_env.sh": EXPORTS,
    },
    "environment": {"/etc/environment": SETTINGS},
    "nccl.conf": {
        "/etc/nccl.conf": "".join(f"{n}={v}\n" for n, v in VARIABLES.items() if n[:4] == "NCCL")
    },
    "default-environment": {
        f"{SYSTEMD}/system.conf.d/90-nccl.conf": f"[Manager]\nDefaultEnvironment=LANG=C {WORDS}\n"
    },
    "environment-generator": {
        f"{SYSTEMD}/system-environment-generators/90-nccl": f"#!/bin/sh\ncat <<X\n{SETTINGS}X\n"
    },
    "service.d": {f"{SYSTEMD}/system/service.d/90-nccl.conf": f"[Service]\nEnvironment={WORDS}\n"},
    "set-environment": setter(),
}
# `true`: all at once, but for the last, which takes effect at a moment of its own.
USUAL = tuple(name for name in FORMS if name != "set-environment")


def files(wish: str) -> dict[str, str | bytes]:
    """Path -> content of what has to be gone before NCCL starts.

    wish: `true`, `false`, or names of FORMS with commas between. ValueError: another name.
    """
    names = {"true": USUAL, "false": ()}.get(wish, tuple(wish.split(",")))
    if unknown := set(names) - set(FORMS):
        raise ValueError(f"gib={wish}: unknown {sorted(unknown)}; there are {', '.join(FORMS)}")
    return {path: content for name in names for path, content in FORMS[name].items()}
