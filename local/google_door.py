"""Where a program asks Google by its own name: KMS over gRPC, behind a proxy that knows no other.

The engine's `gcpkms://` keeper knows cloudkms.googleapis.com and no variable that moves it. So it
is given a proxy, which leads that one name to a gRPC server of ours, and a certificate to believe.
Every call is handed on to the REST fake with the caller's token: rights, keys and refusals are
those of KMS.
"""

from __future__ import annotations

import base64
import json
import select
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from local.servers import HOST, certificate

NAME = "cloudkms.googleapis.com"
METHOD = "/google.cloud.kms.v1.KeyManagementService/"
WORKERS = 4
LINE_LIMIT_BYTES = 8192
CHUNK_BYTES = 65536
CALL_LIMIT_S = 30.0
CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
# The fields of kms's messages that are bytes, by number; the first field of each is the name.
REQUESTS = {
    "Encrypt": {2: "plaintext", 3: "additionalAuthenticatedData"},
    "Decrypt": {2: "ciphertext", 3: "additionalAuthenticatedData"},
}


class GoogleDoor:
    """Both servers, from construction to `stop`."""

    def __init__(self, api: str, directory: Path) -> None:
        chain, key = certificate(directory, (NAME,))
        self.certificate = chain
        credentials = grpc.ssl_server_credentials([(key.read_bytes(), chain.read_bytes())])
        self._server = grpc.server(ThreadPoolExecutor(WORKERS), handlers=(_Keys(api),))
        self._proxy = Proxy({f"{NAME}:443": self._server.add_secure_port(f"{HOST}:0", credentials)})
        self._server.start()

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to find this KMS, and nothing else of Google."""
        return {
            "HTTPS_PROXY": self._proxy.url,
            "NO_PROXY": f"{HOST},localhost",
            "SSL_CERT_FILE": str(self.certificate),
        }

    def stop(self) -> None:
        self._proxy.stop()
        self._server.stop(None).wait()


class _Keys(grpc.GenericRpcHandler):
    """Encrypt and Decrypt, as the REST fake answers them."""

    def __init__(self, api: str) -> None:
        self._api = api

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        verb = str(details.method).removeprefix(METHOD)
        if verb not in REQUESTS:
            return None

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            return self._answer(verb, request, context)

        return grpc.unary_unary_rpc_method_handler(answer)

    def _answer(self, verb: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        fields = dict(_fields(request))
        name = fields.pop(1, b"").decode()
        body = {
            word: base64.b64encode(fields[number]).decode()
            for number, word in REQUESTS[verb].items()
            if number in fields
        }
        token = dict(context.invocation_metadata()).get("authorization", "")
        status, found = _post(f"{self._api}/kms/v1/{name}:{verb.lower()}", body, str(token))
        if status != 200:
            code = CODES.get(status, grpc.StatusCode.UNKNOWN)
            context.abort(code, found["error"]["message"])
        if verb == "Decrypt":
            return _field(1, base64.b64decode(found["plaintext"]))
        sealed = base64.b64decode(found["ciphertext"])
        return _field(1, found["name"].encode()) + _field(2, sealed)


def _post(url: str, body: dict[str, str], authorization: str) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json", "Authorization": authorization}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    # Without proxies: ours is named in the environment of programs, not of this one.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=CALL_LIMIT_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


# -- the wire format, as far as these four messages go


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, value) of each field that is text or bytes; the others (checksums) are left out."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        if tag & 7 == 0:
            _, at = _varint(data, at)
        elif tag & 7 == 2:
            size, at = _varint(data, at)
            yield tag >> 3, data[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {tag & 7} is in none of KMS's messages")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _field(number: int, value: bytes) -> bytes:
    return _as_varint(number << 3 | 2) + _as_varint(len(value)) + value


def _as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


class Proxy:
    """An HTTP proxy for CONNECT to the given names; 403 for every other."""

    def __init__(self, ports: dict[str, int]) -> None:
        self._ports = ports
        self._listening = socket.create_server((HOST, 0))
        self.url = f"http://{HOST}:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            client.settimeout(CALL_LIMIT_S)
            try:
                verb, _, rest = _head(client).partition(" ")
                port = self._ports.get(rest.partition(" ")[0]) if verb == "CONNECT" else None
                if port is None:
                    client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                    return
                with socket.create_connection((HOST, port)) as server:
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    _relay(client, server)
            except OSError:
                return  # the caller is gone


def _head(client: socket.socket) -> str:
    data = b""
    while b"\r\n\r\n" not in data and len(data) < LINE_LIMIT_BYTES:
        piece = client.recv(1)  # not a byte more: what follows is the tunnel's
        if not piece:
            break
        data += piece
    return data.partition(b"\r\n")[0].decode("latin-1")


def _relay(one: socket.socket, other: socket.socket) -> None:
    """Until either side is done. TLS ends itself, so nothing is lost with it."""
    to: dict[socket.socket, socket.socket] = {one: other, other: one}
    send: Callable[[socket.socket, bytes], None] = socket.socket.sendall
    while True:
        for ready in select.select([one, other], [], [])[0]:
            data = ready.recv(CHUNK_BYTES)
            if not data:
                return
            send(to[ready], data)
