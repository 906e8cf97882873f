"""What the watchdog costs on the VM: memory, and CPU at its real period.

    python -m bench.watchdog [--looks 20] [--metrics FILE] [--out FOLDER]

The program as systemd starts it, against a machine laid out in a temporary folder: as many
processes as a node with eight GPUs has (links into this machine's own /proc, so that the kernel's
share is in it), a login with an editor's server, an engine's /metrics of the real size, a metadata
server, and Cloud Storage over TLS. None of these runs in the measured process.
"""

import argparse
import contextlib
import datetime
import json
import multiprocessing
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from startup import watchdog

ROOT = Path(__file__).resolve().parent.parent
PROCESSES = 3000  # some 10 kernel threads a core at 208, and what an image runs
MEMORY_LIMIT_MB, CPU_LIMIT = 40, 0.002
FIRST_LOOK_TRIES = 300  # of 0.1 s
METRICS_BYTES = 57_720  # of vLLM 0.24 with one model, at work
WATCHED = """vllm:num_requests_running{engine="0",model_name="m"} 8.0
vllm:num_requests_waiting{engine="0",model_name="m"} 0.0
vllm:prompt_tokens_total{engine="0",model_name="m"} 2695.0
vllm:generation_tokens_total{engine="0",model_name="m"} 2695.0
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 4.0
"""
LINE = 'vllm:request_time_per_output_token_seconds_bucket{engine="0",le="%d",model_name="m"} 4.0\n'


def made_up_metrics() -> bytes:
    """The watched series among as many others as vLLM has."""
    lines = [WATCHED]
    while sum(map(len, lines)) < METRICS_BYTES:
        lines.append(LINE % len(lines))
    return "".join(lines).encode()


class Answers(BaseHTTPRequestHandler):
    """Metadata server, engine and bucket in one; nobody holds a lease."""

    metrics = b""

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self._say(200, self.metrics)
        elif self.path.endswith("/token"):
            self._say(200, b'{"access_token":"none","expires_in":3600}')
        elif self.path.endswith("/instance/id"):
            self._say(200, b"4242")
        else:
            self._say(404, b"not here")

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._say(200, b"")

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def serve(metrics: bytes, pem: Path | None, port: Any) -> None:
    """One server, in a process of its own; it tells its port."""
    Answers.metrics = metrics
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    if pem is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(pem)
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    port.send(server.server_port)
    server.serve_forever()


@contextlib.contextmanager
def server(metrics: bytes, pem: Path | None) -> Iterator[int]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=serve, args=(metrics, pem, there), daemon=True
    )
    process.start()
    try:
        if not here.poll(30):
            raise SystemExit("a server of the measurement does not start")
        yield int(here.recv())
    finally:
        process.kill()
        process.join()


def certificate(folder: Path) -> tuple[Path, Path]:
    """(key and certificate of 127.0.0.1, all that the measured process trusts)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    ).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pem, trusted = folder / "server.pem", folder / "trusted.pem"
    pem.write_bytes(private + made)
    trusted.write_bytes(Path(certifi.where()).read_bytes() + made)
    return pem, trusted


def lay_out(root: Path, processes: int) -> None:
    """A machine that serves: `processes` of them, one login with an editor in it."""
    for folder in ("dev/pts", "proc", "run/mayfly", "var/lib/mayfly"):
        (root / folder).mkdir(parents=True)
    (root / "run/mayfly/phase").write_text("serving")
    real = [name for name in os.listdir("/proc") if name.isdecimal()]
    for number in range(processes):
        (root / "proc" / str(100_000 + number)).symlink_to(f"/proc/{real[number % len(real)]}")
    rows = [
        (10, 1, "sshd"),
        (11, 10, "sshd"),
        (12, 11, "bash"),
        *((n, 12, "node") for n in (13, 14)),
    ]
    for pid, parent, comm in rows:
        folder = root / "proc" / str(pid)
        folder.mkdir()
        zeros = " ".join("0" * 6)
        (folder / "stat").write_text(
            f"{pid} ({comm}) S {parent} 1 1 0 -1 {zeros} 5 0 0 20 0 1 0 77 0 0\n"
        )
        (folder / "io").write_text("rchar: 4711\nwchar: 4711\n")
        (folder / "exe").symlink_to("/home/ann/.vscode-server/bin/node")


def environment(root: Path, ports: dict[str, int], trusted: Path, idle_s: float) -> dict[str, str]:
    """The unit's. PATH holds a systemctl that does nothing: this machine must not go down."""
    (root / "bin").mkdir()
    stub = root / "bin/systemctl"
    stub.write_text("#!/bin/sh\nexit 0\n")
    stub.chmod(0o755)
    limits = {"IDLE": idle_s, "START": 1800, "FAILED": 300, "HEARTBEAT": 300, "MAX_LIFE": 14400}
    return {
        **{f"MAYFLY_{name}_S": str(value) for name, value in limits.items()},
        "MAYFLY_ROOT": str(root),
        "MAYFLY_PORT": str(ports["plain"]),
        "MAYFLY_STATE_BUCKET": "state",
        "MAYFLY_SESSION": "dev",
        "GCE_METADATA_HOST": f"127.0.0.1:{ports['plain']}",
        "GOOGLE_STORAGE_CUSTOM_ENDPOINT": f"https://localhost:{ports['tls']}/storage/v1/",
        "SSL_CERT_FILE": str(trusted),
        "PATH": str(root / "bin"),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far, of all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_kib(pid: int) -> dict[str, int]:
    rows = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines())
    found = {row[0].rstrip(":"): int(row[1]) for row in rows if row[0] in ("Rss:", "Pss:")}
    return {key.lower(): value for key, value in found.items()}


def within(cpu_ms_a_look: float, rss_mb: float) -> bool:
    """Whether that is as little as was promised, at the real period."""
    return cpu_ms_a_look <= 1000 * CPU_LIMIT * watchdog.PERIOD_S and rss_mb <= MEMORY_LIMIT_MB


def measure(
    process: subprocess.Popen[bytes], looks: int, period_s: float, folder: Path
) -> dict[str, Any]:
    """After the first look: what it takes for so many more."""
    first, log = folder / "root/run/mayfly/watchdog.json", folder / "log"
    for _ in range(FIRST_LOOK_TRIES):
        if first.exists():
            break
        time.sleep(0.1)
    time.sleep(period_s / 2)
    before_s, began = cpu_s(process.pid), time.monotonic()
    time.sleep(looks * period_s)
    spent_s, passed_s = cpu_s(process.pid) - before_s, time.monotonic() - began
    said = log.read_text()
    if process.poll() is not None or said:
        raise SystemExit(f"the watchdog ended, or found something to say:\n{said}")
    memory = {f"{k}_mb": round(v * 1024 / 1e6, 1) for k, v in memory_kib(process.pid).items()}
    return {
        "looks": looks,
        "period_s": period_s,
        "seconds": round(passed_s, 1),
        "cpu_s": round(spent_s, 3),
        "cpu_ms_a_look": round(1000 * spent_s / looks, 2),
        "cpu_s_an_hour": round(3600 * spent_s / passed_s, 1),
        "core_percent": round(100 * spent_s / passed_s, 3),
        **memory,
        "within": within(1000 * spent_s / looks, memory["rss_mb"]),
    }


def run(
    looks: int, processes: int, metrics: bytes, python: str, idle_s: float = 1200
) -> dict[str, Any]:
    """idle_s: below 120 the watchdog looks more often, eight times in it."""
    with tempfile.TemporaryDirectory(prefix="mayfly-bench-") as name, contextlib.ExitStack() as up:
        folder = Path(name)
        pem, trusted = certificate(folder)
        ports = {
            "plain": up.enter_context(server(metrics, None)),
            "tls": up.enter_context(server(metrics, pem)),
        }
        root = folder / "root"
        lay_out(root, processes)
        log = folder / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [python, "-m", "startup.watchdog"],
                cwd=folder,
                env=environment(root, ports, trusted, idle_s),
                stdout=out,
                stderr=out,
            )
        try:
            period_s = min(watchdog.PERIOD_S, idle_s / 8)
            found = measure(process, looks, period_s, folder)
        finally:
            process.kill()
            process.wait()
        told = json.loads((root / "run/mayfly/watchdog.json").read_text())
        if not {"vm_id", "lease_read", "counters"} <= told.keys():
            raise SystemExit(f"it has not seen everything: {sorted(told)}")
    version = subprocess.run([python, "--version"], capture_output=True, text=True, check=True)
    return {
        "date": datetime.date.today().isoformat(),
        "python": version.stdout.strip(),
        "processes": processes,
        "metrics_bytes": len(metrics),
        **found,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="What the watchdog costs on the VM.")
    parser.add_argument("--looks", type=int, default=20)
    parser.add_argument("--processes", type=int, default=PROCESSES)
    parser.add_argument("--metrics", type=Path, help="an engine's /metrics; else one made up")
    parser.add_argument("--python", default=shutil.which("python3", path="/usr/bin"))
    parser.add_argument("--out", type=Path, help="folder for watchdog.json")
    args = parser.parse_args()
    metrics = args.metrics.read_bytes() if args.metrics else made_up_metrics()
    found = run(args.looks, args.processes, metrics, args.python or sys.executable)
    text = json.dumps(found, indent=2)
    print(text)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "watchdog.json").write_text(text + "\n")
    return 0 if found["within"] else 1


if __name__ == "__main__":
    sys.exit(main())
