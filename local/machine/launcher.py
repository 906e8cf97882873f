"""One machine's process on the host: boots it, reboots it, carries its console and connections.

`python -m local.machine.launcher DIRECTORY FD`: FD is the way to `Machines`. When that end closes,
for whatever reason, the machine dies: nothing outlives the local cloud.
"""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from local.machine import kernel, relay

SERIAL_LIMIT = 4 * 1024 * 1024
_CONNECT_TIMEOUT_S = 5.0


class Launcher:
    """The state of one machine as seen from the host."""

    def __init__(self, directory: Path, control: socket.socket) -> None:
        self.directory = directory
        self.control = control
        self.listeners: list[socket.socket] = []
        self.init: socket.socket | None = None
        self.door: socket.socket | None = None
        self.door_lock = threading.Lock()

    def run(self) -> int:
        """Boot until the machine is off. The cradle must be a child of this very thread."""
        self.open_portal()
        threading.Thread(target=self.obey, daemon=True).start()
        how = kernel.ENDED_REBOOT
        while how == kernel.ENDED_REBOOT:
            how = self.boot_once()
            self.close_listeners()
        relay.send(self.control, {"off": how == kernel.ENDED_POWER_OFF})
        return 0

    def boot_once(self) -> int:
        """One life between power on and power off or reboot."""
        init, inner = relay.pair()
        door, inner_door = relay.pair()
        wire, inner_wire = relay.pair()
        console, console_in = os.pipe()
        os.set_inheritable(console_in, True)
        fds = (inner_wire.fileno(), inner.fileno(), inner_door.fileno(), console_in)
        process = subprocess.Popen(
            [sys.executable, "-m", "local.machine.cradle", self.directory / "spec.json"]
            + [str(fd) for fd in fds],
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            stdout=console_in,
            stderr=console_in,
        )
        for end in (inner, inner_door, inner_wire):
            end.close()
        os.close(console_in)
        self.init, self.door = init, door
        writer = threading.Thread(target=self.write_serial, args=(console,), daemon=True)
        writer.start()
        threading.Thread(target=self.plug_in, args=(wire,), daemon=True).start()
        threading.Thread(target=self.listen_to, args=(init,), daemon=True).start()
        how = process.wait()
        writer.join(timeout=5)
        init.close()
        with self.door_lock:
            self.door = None
            door.close()
        return how

    def plug_in(self, wire: socket.socket) -> None:
        """The other end of the machine's network card, for those who carry its packets."""
        with wire:
            for nic in socket.recv_fds(wire, 16, 1)[1]:
                relay.send(self.control, {"nic": True}, [nic])
                os.close(nic)

    def listen_to(self, init: socket.socket) -> None:
        """What the machine's init says: which sockets listen inside, for us to answer."""
        while answer := relay.receive(init):
            message, fds = answer
            for name, fd in zip(message["listen"], fds, strict=True):
                if name == "metadata":
                    relay.send(self.control, {"metadata": True}, [fd])
                    os.close(fd)
                else:
                    self.forward(socket.socket(fileno=fd), int(name))

    def forward(self, listener: socket.socket, port: int) -> None:
        """A port inside the machine leads to the same port of the host."""

        def handle(connection: socket.socket) -> None:
            try:
                target = socket.create_connection(("127.0.0.1", port), _CONNECT_TIMEOUT_S)
            except OSError:  # nobody there: the client sees a closed connection
                connection.close()
                return
            target.settimeout(None)
            relay.join(connection, target)

        self.listeners.append(listener)
        relay.serve(listener, handle)

    def close_listeners(self) -> None:
        while self.listeners:
            relay.close_listener(self.listeners.pop())

    def open_portal(self) -> None:
        """The way in: a unix socket that takes `CONNECT <port>` or `CONNECT nic:<port>`."""
        path = self.directory / "portal.sock"
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        with relay.short_address(path) as address:
            listener.bind(address)
        listener.listen(64)
        relay.serve(listener, self.let_in)

    def let_in(self, connection: socket.socket) -> None:
        connection.settimeout(_CONNECT_TIMEOUT_S)
        line = ""
        with contextlib.suppress(OSError):
            line = relay.read_line(connection)
        connection.settimeout(None)
        target = self.dial(line)
        if isinstance(target, str):
            with contextlib.suppress(OSError):
                connection.sendall(f"ERROR {target}\n".encode())
            connection.close()
            return
        connection.sendall(b"OK\n")
        relay.join(connection, target)

    def dial(self, line: str) -> socket.socket | str:
        """A socket connected inside the machine, or why not."""
        words = line.split()
        nic, _, port = words[1].rpartition(":") if len(words) == 2 else ("", "", "")
        if not (words[:1] == ["CONNECT"] and nic in ("", "nic") and port.isdigit()):
            return f"bad request: {line[:80]!r}"
        with self.door_lock:
            if self.door is None:
                return "the machine is off"
            try:
                relay.send(self.door, {"port": int(port), "nic": bool(nic)})
            except OSError:
                return "the machine is off"
            answer = relay.receive(self.door)
        if answer is None:
            return "the machine is off"
        message, fds = answer
        return socket.socket(fileno=fds[0]) if fds else str(message["error"])

    def obey(self) -> None:
        """Orders from `Machines`; its end is ours."""
        while answer := relay.receive(self.control):
            message, _ = answer
            if self.init is not None and message.get("stop"):
                with contextlib.suppress(OSError):
                    relay.send(self.init, {"stop": True})
        os._exit(1)  # the kernel ends the cradle with us, and the machine with the cradle

    def write_serial(self, console: int) -> None:
        """Keep what the machine says, up to SERIAL_LIMIT."""
        with (self.directory / "serial.log").open("ab") as log, open(console, "rb", 0) as source:
            while data := source.read(65536):
                room = SERIAL_LIMIT - log.tell()
                if room > 0:
                    log.write(data[:room])
                    log.flush()


if __name__ == "__main__":
    sys.exit(Launcher(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2]))).run())
