"""As much of Google as the desk asks: VMs, their claims, a bucket, a secret. All in memory."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

PROJECT = "p-for-tests"
ZONE = "us-central1-a"
LIMITS = {"idle_s": 1200, "start_s": 1800, "failed_s": 300, "heartbeat_s": 300, "max_life_s": 14400}


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


CONDITION_NOT_MET = 412, {"error": {"message": "conditionNotMet", "code": 412}}


@dataclass
class Google:
    """claims: guest attributes by VM name. serial: by VM name. fail: statuses to answer first.

    named: the buckets and functions that there are. located: buckets' locations.
    quotas: quotaInfos. refuse_writes: why nobody may write.
    may_list: False hides what is not there behind a 403, as Cloud Storage does.
    before_write: what happens just before each of the next uploads. lost_answers: how many uploads
    from now on are answered 503, whether they went through or not. shown: the generation of the
    object that was read last.
    to_come: operations, the next of which is there once they have been listed.
    """

    instances: dict[str, dict[str, Any]] = field(default_factory=dict)
    claims: dict[str, dict[str, str]] = field(default_factory=dict)
    serial: dict[str, str] = field(default_factory=dict)
    operations: list[dict[str, Any]] = field(default_factory=list)
    to_come: list[dict[str, Any]] = field(default_factory=list)
    disks: list[dict[str, Any]] = field(default_factory=list)
    objects: dict[tuple[str, str], bytes] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    located: dict[str, str] = field(default_factory=dict)
    quotas: list[dict[str, Any]] = field(default_factory=list)
    query: dict[str, str] = field(default_factory=dict)
    fail: list[int] = field(default_factory=list)
    fail_reason: str = "backendError"
    refuse_writes: str = ""
    may_list: bool = True
    before_write: list[Callable[[], None]] = field(default_factory=list)
    lost_answers: int = 0
    generations: dict[tuple[str, str], tuple[bytes | None, int]] = field(default_factory=dict)
    shown: str = "0"
    made: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add_vm(
        self, session: str, *, layer: str = "session", age_s: float = 600, **more: Any
    ) -> str:
        """A VM of ours; returns its id. more: settings."""
        number = str(1000 + self.made)
        self.made += 1
        settings = {
            "session": session,
            "profile": "kimi-k2.5",
            "hourly_usd": 26.0,
            **LIMITS,
            **more,
        }
        self.instances[number] = {
            "id": number,
            "name": f"mayfly-{session}",
            "zone": f"https://www.googleapis.com/compute/v1/projects/{PROJECT}/zones/{ZONE}",
            "status": "RUNNING",
            "creationTimestamp": stamp(time.time() - age_s),
            "labels": {"mayfly": layer, "mayfly-session": session, "mayfly-provisioning": "spot"},
            "metadata": {"items": [{"key": "mayfly-settings", "value": json.dumps(settings)}]},
        }
        return number

    def say(self, session: str, **claims: str) -> None:
        """What a VM claims of itself from now on."""
        self.claims.setdefault(f"mayfly-{session}", {}).update(claims)

    def serving(self, session: str, *, idle_s: float = 0) -> None:
        """A VM that serves and was last asked idle_s ago."""
        now = time.time()
        self.say(session, phase="serving", heartbeat=stamp(now), active_at=stamp(now - idle_s))

    def answer(self, path: str) -> tuple[int, Any]:
        """Status and body of a GET."""
        if self.fail:
            errors = [{"reason": self.fail_reason}]
            return self.fail.pop(0), {"error": {"message": "try again", "errors": errors}}
        words = [unquote(w) for w in path.strip("/").split("/")]
        missing = 404, {"error": {"message": "not found", "code": 404}}
        if "aggregated" in words:
            kind = words[-1]
            ours = [i for i in self.instances.values() if "mayfly" in i["labels"]]
            found = {"instances": ours, "disks": self.disks}.get(kind, [*self.operations])
            if kind == "operations" and self.to_come:
                self.operations.append(self.to_come.pop(0))
            return 200, {"items": {f"zones/{ZONE}": {kind: found}}}
        if words[0] == "quotas":
            return 200, {"quotaInfos": self.quotas}
        if words[0] == "billing":
            return 200, {"billingEnabled": True}
        if words[0] == "secret" and words[-1].endswith(":access"):
            value = self.secrets.get("/".join(words[1:5]))
            data = base64.b64encode((value or "").encode()).decode()
            return (200, {"payload": {"data": data}}) if value else missing
        if words[-1] in self.located:
            return 200, {"name": words[-1], "location": self.located[words[-1]]}
        if words[0] == "functions" or (words[0] == "storage" and len(words) == 3):
            return (200, {"name": words[-1]}) if words[-1] in self.named else missing
        if words[0] == "storage" and len(words) == 4:
            wanted = self.query.get("prefix", "")
            there = [k for k in self.objects if k[0] == words[2] and k[1].startswith(wanted)]
            return 200, {"items": [self._described(*key) for key in there]}
        if words[0] == "storage":
            data = self.objects.get((words[2], words[4]))
            self.shown = self.generation((words[2], words[4]))
            return (200, data) if data is not None else self._no_object()
        return self._instance(words[words.index("instances") + 1 :], missing)

    def change(self, method: str, path: str, sent: bytes) -> tuple[int, Any]:
        """Status and body of an object's upload or deletion, or of a VM's deletion."""
        name = path.rpartition("/")[2]
        if method == "DELETE" and name in self.instances:
            del self.instances[name]
            return 200, {"name": "operation-1"}
        if "b" not in path.split("/"):
            return 404, {"error": {"message": "not found", "code": 404}}
        if self.refuse_writes:
            return 403, {"error": {"message": self.refuse_writes, "code": 403}}
        words = [unquote(w) for w in path.strip("/").split("/")]
        if method == "DELETE":
            key = words[2], words[4]
            if key in self.objects and not self._as_read(key):
                return CONDITION_NOT_MET
            there = self.objects.pop(key, None)
            return (204, b"") if there is not None else self._no_object()
        key = words[words.index("b") + 1], self.query["name"]
        if self.before_write:
            self.before_write.pop(0)()
        status, said = self._stored(key, sent) if self._as_read(key) else CONDITION_NOT_MET
        if self.lost_answers:
            self.lost_answers -= 1
            return 503, {"error": {"message": "try again", "code": 503}}
        return status, said

    def _stored(self, key: tuple[str, str], sent: bytes) -> tuple[int, Any]:
        self.objects[key] = sent
        return 200, {"generation": self.generation(key)}

    def _as_read(self, key: tuple[str, str]) -> bool:
        """Whether an object is in the generation that the caller wants to find it in."""
        there = self.generation(key)
        return self.query.get("ifGenerationMatch", there) == there

    def generation(self, key: tuple[str, str]) -> str:
        """An object's, which grows with each write, by whoever; "0" where there is none."""
        data, (known, number) = self.objects.get(key), self.generations.get(key, (None, 0))
        if data is not known:
            self.generations[key] = data, number + (data is not None)
        return str(self.generations[key][1]) if data is not None else "0"

    def _no_object(self) -> tuple[int, Any]:
        if self.may_list:
            return 404, {"error": {"message": "none", "code": 404}}
        text = "ann does not have storage.objects.get access (or it may not exist)."
        return 403, {"error": {"message": text, "code": 403}}

    def _described(self, bucket: str, name: str) -> dict[str, Any]:
        data = self.objects[bucket, name]
        return {"name": name, "size": str(len(data)), "crc32c": f"sum-of-{data.decode()}"}

    def _instance(self, words: list[str], missing: tuple[int, Any]) -> tuple[int, Any]:
        name = words[0]
        found = next((i for i in self.instances.values() if name in (i["id"], i["name"])), None)
        if found is None:
            return missing
        if words[1:] == ["getGuestAttributes"]:
            claims = self.claims.get(name)
            items = [{"key": k, "value": v} for k, v in (claims or {}).items()]
            return (200, {"queryValue": {"items": items}}) if claims else missing
        if words[1:] == ["serialPort"]:
            said = self.serial.get(name, "")
            start = int(self.query.get("start", "0"))
            return 200, {"contents": said[start:], "next": str(len(said))}
        return 200, found


@contextmanager
def serving(google: Google) -> Iterator[dict[str, str]]:
    """The environment that leads the door to this Google."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Quiet."""

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            sent = self.rfile.read(length)
            with google.lock:
                parts = urlsplit(self.path)
                google.query = dict(parse_qsl(parts.query))
                if self.command == "GET":
                    status, body = google.answer(parts.path)
                else:
                    status, body = google.change(self.command, parts.path, sent)
                shown = google.shown
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("x-goog-generation", shown)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_DELETE = do_GET  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    base = f"http://127.0.0.1:{server.server_port}"
    try:
        yield {
            "GOOGLE_PROJECT": PROJECT,
            "GOOGLE_COMPUTE_CUSTOM_ENDPOINT": f"{base}/compute/v1/",
            "GOOGLE_STORAGE_CUSTOM_ENDPOINT": f"{base}/storage/",
            "GOOGLE_SECRET_MANAGER_CUSTOM_ENDPOINT": f"{base}/secret/",
            "GOOGLE_CLOUDFUNCTIONS2_CUSTOM_ENDPOINT": f"{base}/functions/",
            "GOOGLE_CLOUD_QUOTAS_CUSTOM_ENDPOINT": f"{base}/quotas/",
            "GOOGLE_CLOUD_BILLING_CUSTOM_ENDPOINT": f"{base}/billing/",
            "GOOGLE_RESOURCE_MANAGER_CUSTOM_ENDPOINT": f"{base}/projects/v1/",
        }
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
