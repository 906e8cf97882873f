"""The REST fake's doors: http, and https with a certificate made for the occasion."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from flask import Flask
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from local.rest.identity import OWNER, Principal

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HOST = "127.0.0.1"
VALID = timedelta(days=30)
POLL_S = 0.05


class _Handler(WSGIRequestHandler):
    """HTTP/1.1, for chunked bodies; every call is in /_local/calls, so there is no access log."""

    protocol_version = "HTTP/1.1"

    def log_request(self, *args: Any, **kwargs: Any) -> None:
        pass


class Door:
    """A free port, listened on; who calls before it is served waits.

    owner: whose the storage calls without a token are. Google's clients send none where they are
    given STORAGE_EMULATOR_HOST, nor does gsutil without credentials: so each who may use them has
    a door of its own. None: such calls are nobody's.
    """

    def __init__(self, scheme: str, owner: Principal | None = None) -> None:
        self.owner = owner
        self.socket = socket.create_server((HOST, 0), backlog=128)
        self.port = int(self.socket.getsockname()[1])
        self.url = f"{scheme}://{HOST}:{self.port}"


class Server:
    """Serves an app behind a door, with a thread a request."""

    def __init__(self, app: Flask, door: Door, tls: ssl.SSLContext | None = None) -> None:
        self._server: BaseWSGIServer = make_server(
            HOST,
            door.port,
            _owned(app, door.owner) if door.owner else app,
            threaded=True,
            request_handler=_Handler,
            ssl_context=tls,
            fd=door.socket.fileno(),
        )
        door.socket.close()  # the server has its own copy
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_S,), daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _owned(app: Flask, owner: Principal) -> WSGIApplication:
    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return app(environ | {OWNER: owner}, start_response)

    return answer


def self_signed(directory: Path) -> ssl.SSLContext:
    """A server context for 127.0.0.1 and localhost; the files stay in `directory`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(directory, ("localhost",)))
    return context


def certificate(directory: Path, names: Sequence[str]) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and these names that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.now(UTC)
    known = [*map(x509.DNSName, names), x509.IPAddress(ipaddress.ip_address(HOST))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName(known), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    directory.mkdir(parents=True, exist_ok=True)
    chain, secret = directory / "certificate.pem", directory / "key.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.touch(mode=0o600)
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return chain, secret
