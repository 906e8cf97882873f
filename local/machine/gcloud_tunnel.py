"""The stand-in for `gcloud compute start-iap-tunnel`: a port of the VM's own address only.

What listens on the VM's loopback only is out of its reach.
"""

import contextlib
import os
import socket
import sys
import threading
import time

from local.machine import relay
from local.machine.gcloud_cloud import NO_BACKEND, Cloud, Portal, unreachable
from local.machine.gcloud_words import Grammar, RefusalError, Words

GRAMMAR = Grammar(
    "start-iap-tunnel", valued=("--local-host-port",), switches=("--listen-on-stdin",)
)
_ALIVE_POLL_S = 0.5
_CHUNK = 256 * 1024


def run(cloud: Cloud, argv: list[str]) -> int:
    """Carry connections until the caller, or the VM, is gone."""
    words = GRAMMAR.parse(argv)
    if len(words.names) != 2 or not words.names[1].isdigit():
        raise RefusalError(
            "ERROR: (gcloud.compute.start-iap-tunnel) argument INSTANCE_NAME INSTANCE_PORT: Must "
            "be specified.",
            2,
        )
    if "--listen-on-stdin" in words.switches:
        if "--local-host-port" in words.options:
            raise RefusalError(
                "ERROR: (gcloud.compute.start-iap-tunnel) arguments not allowed simultaneously: "
                "--listen-on-stdin, --local-host-port",
                2,
            )
        return on_stdin(cloud, words)
    return on_port(cloud, words)


def dial(cloud: Cloud, words: Words) -> tuple[Portal, socket.socket]:
    """One connection by IAP's rules; RefusalError says which of them is against it."""
    port = int(words.names[1])
    instance = cloud.instance(words)
    cloud.check_reachable(words, instance, port)
    portal = Portal(cloud.directory, str(instance["id"]))
    connection = portal.connect(f"nic:{port}")
    if isinstance(connection, str):
        raise unreachable(NO_BACKEND)
    return portal, connection


def on_stdin(cloud: Cloud, words: Words) -> int:
    """One connection on standard input and output: ssh's ProxyCommand."""
    _, connection = dial(cloud, words)

    def send() -> None:
        with contextlib.suppress(OSError):
            while data := os.read(0, _CHUNK):
                connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)

    threading.Thread(target=send, daemon=True).start()
    with contextlib.suppress(OSError):
        while data := connection.recv(_CHUNK):
            view = memoryview(data)
            while view:
                view = view[os.write(1, view) :]
    return 0


def on_port(cloud: Cloud, words: Words) -> int:
    """A local port that leads there, tried once before it is said to listen."""
    port = int(words.names[1])
    print("Testing if tunnel connection works.", file=sys.stderr, flush=True)
    try:
        portal, probe = dial(cloud, words)
    except RefusalError as refusal:
        raise RefusalError(f"{refusal} (Failed to connect to port {port})") from refusal
    probe.close()
    local = int(words.options.get("--local-host-port", "localhost:0").rpartition(":")[2])
    listener = listen(local)
    relay.serve(listener, lambda connection: carry(portal, port, connection))
    print(f"Listening on port [{listener.getsockname()[1]}].", file=sys.stderr, flush=True)
    while portal.alive():
        time.sleep(_ALIVE_POLL_S)
    return 1


def carry(portal: Portal, port: int, connection: socket.socket) -> None:
    target = portal.connect(f"nic:{port}")
    if isinstance(target, str):
        connection.close()
    else:
        relay.join(connection, target)


def listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        raise RefusalError(
            f"ERROR: (gcloud.compute.start-iap-tunnel) Local port [{port}] is not available."
        ) from error
    listener.listen(64)
    return listener
