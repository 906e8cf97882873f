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


def files() -> dict[str, str | bytes]:
    """Path -> content of everything that has to be gone before NCCL starts."""
    exports = "".join(f"export {name}={value}\n" for name, value in VARIABLES.items())
    settings = "".join(f"{name}={value}\n" for name, value in VARIABLES.items())
    nccl = "".join(f"{n}={v}\n" for n, v in VARIABLES.items() if n.startswith("NCCL_"))
    return {
        **{f"{DIRECTORY}/lib64/{name}": shared_object(name) for name in LIBRARIES},
        f"{DIRECTORY}/scripts/set_nccl_env.sh": f"#!/bin/bash\n{exports}",
        f"{DIRECTORY}/configs/tuner_config_a3.txtpb": "# tuner\n",
        f"{DIRECTORY}/configs/guest_config.txtpb": "# guest\n",
        "/etc/ld.so.conf.d/nccl-gib.conf": f"{DIRECTORY}/lib64\n",
        "/etc/profile.d/nccl-gib.sh": f"source {DIRECTORY}/scripts/set_nccl_env.sh\n",
        "/etc/profile.d/nccl_env.sh": exports,
        "/etc/nccl.conf": nccl,
        "/etc/environment": settings,
    }


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
