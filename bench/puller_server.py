"""A storage server of its own for bench/pullers.py: fake-gcs-server over https, in /dev/shm."""

import os
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SHM = Path("/dev/shm")


@dataclass(frozen=True)
class Server:
    """port: of fake-gcs-server. ca: its certificate. work: for configuration and logs."""

    port: int
    ca: Path
    work: Path

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """For every puller: this server, nobody's credentials, nothing of the user's shell."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.work),
            "MAYFLY_ROOT": str(self.work),
            "GCE_METADATA_HOST": "127.0.0.1:9",
            "BOTO_CONFIG": str(self.work / "boto.cfg"),
            "REQUESTS_CA_BUNDLE": str(self.ca),
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": f"{self.url}/storage/v1/",
            "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE": str(self.ca),
            "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
            "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
            "CLOUDSDK_CORE_PROJECT": "bench",
        }


@contextmanager
def served(files: int, file_bytes: int) -> Iterator[tuple[Server, Path]]:
    """A server that holds the files, and the folder of their originals."""
    with (
        tempfile.TemporaryDirectory(prefix="pullers-", dir=SHM) as data,
        tempfile.TemporaryDirectory(prefix="pullers-") as work,
    ):
        originals = Path(data, "source/bench")
        originals.mkdir(parents=True)
        (originals / "tiny").write_bytes(b"x")
        for number in range(1, files + 1):
            name = f"model-{number:05}-of-{files:05}.safetensors"
            (originals / name).write_bytes(os.urandom(file_bytes))
        server = Server(free_port(), Path(work, "ca.pem"), Path(work))
        configure(server)
        process = start(server, Path(data))
        try:
            yield server, originals
        finally:
            process.kill()
            process.wait(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def configure(server: Server) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=pullers", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(server.work / "key.pem"), "-out", str(server.ca)]
    subprocess.run(command, check=True, capture_output=True)
    (server.work / "run/mayfly").mkdir(parents=True)
    (server.work / "boto.cfg").write_text(
        f"[Credentials]\ngs_json_host = 127.0.0.1\ngs_json_port = {server.port}\n"
        f"[Boto]\nca_certificates_file = {server.ca}\n"
        "[GSUtil]\ndefault_project_id = bench\nprefer_api = json\n"
    )


def trusting(server: Server) -> urllib.request.HTTPSHandler:
    return urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(server.ca)))


def start(server: Server, data: Path) -> subprocess.Popen[bytes]:
    found = sorted(Path.home().glob(".cache/mayfly/fake-gcs-server/*/fake-gcs-server"))
    if not found:
        raise SystemExit("There is no fake-gcs-server.\nTry: make engine")
    command = [str(found[-1]), "-scheme", "https", "-host", "127.0.0.1"]
    command += ["-port", str(server.port), "-backend", "filesystem", "-log-level", "error"]
    command += ["-filesystem-root", str(data / "root"), "-data", str(data / "source")]
    command += ["-cert-location", str(server.ca)]
    command += ["-private-key-location", str(server.work / "key.pem")]
    command += ["-external-url", server.url, "-public-host", f"127.0.0.1:{server.port}"]
    process = subprocess.Popen(command)
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            url = f"{server.url}/storage/v1/b/bench/o/tiny"
            urllib.request.build_opener(urllib.request.ProxyHandler({}), trusting(server)).open(url)
            return process
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.2)
    process.kill()
    raise SystemExit("fake-gcs-server does not answer")
