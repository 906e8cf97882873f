"""The machines of one local cloud: what a created instance boots into."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import HTTPServer
from pathlib import Path
from typing import Any

from local.machine import births, hosts, kernel, metadata, openssh, relay, rootfs
from local.machine.image import Image
from local.machine.oslogin import OsLogin
from local.machine.wire import Port, Wire

STOP_GRACE_S = 30.0
_KILL_GRACE_S = 5.0
_CONNECT_TIMEOUT_S = 5.0
_COMMANDS_LIMIT = 8 * 1024 * 1024
ROOT = Path(__file__).resolve().parents[2]


class MachineError(RuntimeError):
    """A machine could not be started or reached; the message says what to do."""


@dataclass
class _Life:
    """One running machine."""

    directory: Path
    process: subprocess.Popen[bytes]
    control: socket.socket
    tree: metadata.Tree
    server: HTTPServer | None = None
    over: threading.Event = field(default_factory=threading.Event)
    expected: bool = False


def _ignore(*_: object) -> None:
    """Nobody wants to know yet."""


class Machines:
    """Boots, stops and forgets machines; `directory` holds one folder for each.

    settings: read at each boot (`driver`, `gib`, `vllm_tokens_per_s`, ...), as text.
    """

    def __init__(self, directory: Path, image: Image, settings: Mapping[str, Any]) -> None:
        self.directory = directory
        self.image = image
        self.settings = settings
        self.guest_attributes: Callable[[str, str, str | None], None] = _ignore
        self.powered_off: Callable[[str], None] = _ignore
        self.token: Callable[[str], str] = lambda email: ""
        self.identity: Callable[[str, str], str] = lambda email, audience: ""
        self.permits: Callable[[str, str, str, int], bool] = lambda *_: False
        self.wire = Wire(lambda *asked: self.permits(*asked))
        self._instances: dict[str, dict[str, Any]] = {}
        self._lives: dict[str, _Life] = {}
        self._lock = threading.RLock()

    @staticmethod
    def preflight() -> None:
        """Raises MachineError with the remedy where this host cannot run machines."""
        with tempfile.TemporaryDirectory(prefix="machine-") as name:
            machines = Machines(Path(name), Image(project_id="probe", project_number="1"), {})
            machines.boot(probe_instance())
            try:
                machines.wait_for_serial("1", "probe ok", limit_s=20)
            except MachineError:
                raise MachineError(hosts.explain(machines.serial("1"))) from None
            finally:
                machines.close()

    def boot(self, instance: dict[str, Any]) -> None:
        """Start the machine of a stored instance; it may have been stopped before."""
        identifier = str(instance["id"])
        with self._lock:
            if identifier in self._lives:
                raise MachineError(f"machine {identifier} runs already")
            directory = self.directory / identifier
            self._instances[identifier] = instance
            if not (directory / "spec.json").exists():
                self._make(directory, instance)
            self._lives[identifier] = self._start(identifier, directory)

    def update(self, instance: dict[str, Any]) -> None:
        """The stored instance has changed: its metadata server says so from now on."""
        self._instances[str(instance["id"])] = instance

    def stop(self, instance_id: str) -> None:
        """Ask the guest to halt, as ACPI does, and pull the plug after STOP_GRACE_S."""
        life = self._lives.get(instance_id)
        if life is None:
            return
        life.expected = True
        with contextlib.suppress(OSError):
            relay.send(life.control, {"stop": True})
        if not life.over.wait(STOP_GRACE_S):
            self._kill(life)

    def notice_preemption(self, instance_id: str) -> None:
        """From now on the machine's metadata says that it is being preempted; `stop` follows."""
        life = self._lives.get(instance_id)
        if life is not None:
            life.tree.preempted = True

    def lose_metadata(self, instance_id: str) -> None:
        """The metadata server of a running machine stops answering, until the next boot."""
        life = self._lives.get(instance_id)
        if life is not None:
            self._end_server(life)

    def process(self, instance_id: str) -> int:
        """The host's number of the process that all of a running machine's descend from."""
        return self._lives[instance_id].process.pid

    def kill(self, instance_id: str) -> None:
        """Pull the plug; the disk stays."""
        life = self._lives.get(instance_id)
        if life is not None:
            life.expected = True
            self._kill(life)

    def destroy(self, instance_id: str) -> None:
        """End the machine at once and remove all it left."""
        self.kill(instance_id)
        self._instances.pop(instance_id, None)
        rootfs.remove(self.directory / instance_id)

    def close(self) -> None:
        """Destroy every machine, also those behind one that does not end."""
        with contextlib.ExitStack() as ends:
            ends.callback(self.wire.close)
            for identifier in list(self._instances):
                ends.callback(self.destroy, identifier)

    def running(self, instance_id: str) -> bool:
        return instance_id in self._lives

    def serial(self, instance_id: str) -> str:
        """What the machine wrote to its console, since it was made."""
        path = self.directory / instance_id / "serial.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def commands(self, instance_id: str) -> list[dict[str, Any]]:
        """Each command that met a stand-in: t (Unix seconds), argv, exit, seconds."""
        path = self.directory / instance_id / "state" / "commands.jsonl"
        lines = rootfs.read_untrusted(path, _COMMANDS_LIMIT).splitlines()
        commands = []
        for line in lines:
            with contextlib.suppress(ValueError):
                commands.append(json.loads(line))
        return sorted(commands, key=lambda command: command["t"])

    def connect(self, instance_id: str, port: int, *, nic: bool = False) -> socket.socket:
        """A connection to 127.0.0.1:port inside, or to the machine's own address (`nic`)."""
        path = self.directory / instance_id / "portal.sock"
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_CONNECT_TIMEOUT_S)
        try:
            with relay.short_address(path) as address:
                connection.connect(address)
            connection.sendall(f"CONNECT {'nic:' if nic else ''}{port}\n".encode())
            answer = relay.read_line(connection)
        except OSError as error:
            connection.close()
            raise MachineError(f"machine {instance_id}: {error.strerror or error}") from error
        if answer != "OK":
            connection.close()
            raise MachineError(f"machine {instance_id}, port {port}: {answer or 'closed'}")
        connection.settimeout(None)
        return connection

    def wait_for_serial(self, instance_id: str, text: str, limit_s: float) -> str:
        """The console once `text` is in it; MachineError when the limit or the machine is over."""
        deadline = time.monotonic() + limit_s
        while text not in (serial := self.serial(instance_id)):
            if time.monotonic() > deadline or instance_id not in self._lives:
                raise MachineError(f"no {text!r} on the console:\n{serial[-2000:]}")
            time.sleep(0.05)
        return serial

    def _make(self, directory: Path, instance: dict[str, Any]) -> None:
        """A new disk. A half-made one is removed."""
        directory.mkdir(parents=True, mode=0o700)
        try:
            birth = births.birth(self.image, instance, self.settings)
            trees = [*self.image.trees, *births.gsutil_trees(self.image.gsutil)]
            mounts = rootfs.make(directory, birth.files, trees)
            mounts += openssh.mounts(self.image.ssh, directory)
            for name, target in birth.links.items():
                rootfs.write_link(directory, name, target)
            if kernel.is_real_root():
                rootfs.give_to(directory, kernel.UNPRIVILEGED_ID)
            spec = {
                "root": str(directory / "disk"),
                "mounts": [mount.as_dict() for mount in mounts],
                "init": [rootfs.PYTHON, "-ESsB", "/.machine/lib/init.py"],
            }
            (directory / "spec.json").write_text(json.dumps(spec))
        except BaseException:
            rootfs.remove(directory)
            raise

    def _start(self, identifier: str, directory: Path) -> _Life:
        config = births.config(self.image, self._instances[identifier], self.settings)
        path = directory / "machinery/config.json"
        path.write_text(json.dumps(config))
        path.chmod(0o644)
        ours, theirs = relay.pair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "local.machine.launcher", directory, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        life = _Life(directory, process, ours, metadata.Tree(self._source(identifier)))
        threading.Thread(target=self._attend, args=(identifier, life), daemon=True).start()
        return life

    def _source(self, identifier: str) -> metadata.Source:
        return metadata.Source(
            project=metadata.Project(self.image.project_id, self.image.project_number),
            instance=lambda: self._instances[identifier],
            token=lambda email: self.token(email),
            identity=lambda email, audience: self.identity(email, audience),
            attribute=lambda name, value: self.guest_attributes(identifier, name, value),
            oslogin=OsLogin(self.directory.parent),
        )

    def _attend(self, identifier: str, life: _Life) -> None:
        """Follow one machine to its end."""
        while answer := relay.receive(life.control):
            message, fds = answer
            if message.get("metadata"):
                self._end_server(life)
                life.server = metadata.serve(socket.socket(fileno=fds[0]), life.tree)
            elif message.get("nic"):
                self.wire.plug(self._port(identifier), fds[0])
            elif "off" in message:
                break
        self.wire.unplug(identifier)
        life.process.wait()
        self._end_server(life)
        life.control.close()
        with self._lock:
            self._lives.pop(identifier, None)
        life.over.set()
        if not life.expected:
            self.powered_off(identifier)

    def _port(self, identifier: str) -> Port:
        instance = self._instances[identifier]
        return Port(identifier, births.network(instance), births.internal_ip(instance))

    @staticmethod
    def _end_server(life: _Life) -> None:
        if life.server is not None:
            life.server.shutdown()
            life.server.server_close()
            life.server = None

    @staticmethod
    def _kill(life: _Life) -> None:
        """The launcher's end is the end of its cradle, and so of the machine."""
        with contextlib.suppress(OSError):
            life.process.send_signal(signal.SIGKILL)
        if not life.over.wait(_KILL_GRACE_S):
            raise MachineError(f"machine in {life.directory} does not end")


def probe_instance() -> dict[str, Any]:
    """An instance that only says that it runs, with the project's own interpreter."""
    script = f'#!/bin/sh\n{sys.executable} -c \'print("probe", "ok")\'\n'
    return {
        "id": "1",
        "name": "probe",
        "zone": "zones/us-central1-a",
        "machineType": "machineTypes/e2-small",
        "metadata": {"items": [{"key": "startup-script", "value": script}]},
    }
