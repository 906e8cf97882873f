"""Compute and Cloud Storage in memory, over HTTP: as much of them as the reaper may use.

Strict: a path, query or precondition that Google does not have, or that the reaper has no business
with, is refused and kept in `surprises`, which every test finds empty at its end.
"""

import json
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PROJECT = "proj"
INSTANCES = "labels.mayfly:*"
OPERATIONS = "targetLink eq .*/instances/mayfly-.*"
REAPER = "mayfly-reaper@proj.iam.gserviceaccount.com"


class RefusedError(Exception):
    """Google's answer to a call that it does not take."""

    def __init__(self, status: int, message: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.reason = status, message, reason


@dataclass
class Object:
    data: bytes
    generation: int
    updated: float


@dataclass
class Google:
    """The state. `page` is how many entries a list answers at once.

    every_other: (pattern, status) of calls whose first try, third try, ... fails; status 0 drops
    the connection, before anything happened. lost: the same, but it did happen.
    storm: how many of all calls fail, by chance. silent: zones that do not answer, so that lists
    leave them out. answers_in_s: how long a call takes, by pattern.
    meanwhile: what somebody else does just before the first call that matches a pattern.
    names_only: a condition on names refuses deletes by number; else a delete by name is a surprise.
    """

    instances: dict[str, dict[str, Any]] = field(default_factory=dict)
    guests: dict[str, dict[str, str]] = field(default_factory=dict)
    operations: list[dict[str, Any]] = field(default_factory=list)
    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    faults: list[tuple[str, int]] = field(default_factory=list)
    every_other: list[tuple[str, int]] = field(default_factory=list)
    lost: list[tuple[str, int]] = field(default_factory=list)
    hits: Counter[str] = field(default_factory=Counter)
    storm: float = 0.0
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    silent: set[str] = field(default_factory=set)
    answers_in_s: dict[str, float] = field(default_factory=dict)
    meanwhile: list[tuple[str, Callable[[], object]]] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    page: int = 500
    slow_delete: bool = False
    names_only: bool = False
    last: int = 1000
    lock: threading.RLock = field(default_factory=threading.RLock)

    def number(self) -> int:
        self.last += 1
        return self.last

    # -- what a test sets up -------------------------------------------------------------------

    def put(self, bucket: str, name: str, data: bytes | str | dict[str, Any]) -> Object:
        """Write an object; a dict becomes JSON."""
        raw = json.dumps(data) if isinstance(data, dict) else data
        raw = raw.encode() if isinstance(raw, str) else raw
        with self.lock:
            made = Object(raw, self.number(), time.time())
            self.objects[bucket, name] = made
        return made

    def read(self, bucket: str, name: str) -> Any:
        return json.loads(self.objects[bucket, name].data)

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        return sorted(n for b, n in self.objects if b == bucket and n.startswith(prefix))

    def operation(
        self, kind: str, instance: dict[str, Any], at: float, user: str = "", **more: Any
    ) -> dict[str, Any]:
        """Record an operation that is done; `error` makes it a failed one."""
        made = {
            "name": f"operation-{self.number()}",
            "operationType": kind,
            "targetLink": instance["selfLink"],
            "targetId": instance["id"],
            "zone": instance["zone"],
            "user": user,
            "status": "DONE",
            "insertTime": stamp(at),
            "startTime": stamp(at),
            "endTime": stamp(at),
            **more,
        }
        self.operations.append(made)
        return made

    # -- what the reaper may ask ---------------------------------------------------------------

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> Any:
        """The body of the answer; RefusedError for every other outcome."""
        for pattern, happens in [*self.meanwhile]:
            if re.search(pattern, f"{method} {path}"):
                self.meanwhile.remove((pattern, happens))
                happens()
        for number, (pattern, status) in enumerate(self.faults):
            if re.search(pattern, f"{method} {path}"):
                del self.faults[number]
                raise RefusedError(status, "a fault", "backendError")
        call = f"{method} {path} {sorted(query.items())}"
        self.strike(self.every_other, call)
        if self.chance.random() < self.storm:
            raise RefusedError(self.chance.choice((0, 429, 500, 503)), "a storm", "backendError")
        for verb, pattern, allowed, handler in self.routes():
            found = re.fullmatch(pattern, path)
            if found and verb == method:
                if set(query) - set(allowed):
                    raise self.surprise(f"query {sorted(query)} at {method} {path}")
                answer = handler(*found.groups(), query, body)
                self.strike(self.lost, call)
                return answer
        raise self.surprise(f"{method} {path}")

    def strike(self, orders: list[tuple[str, int]], call: str) -> None:
        """Fail the first, third, ... of the calls that an order is for."""
        for pattern, status in orders:
            if re.search(pattern, call):
                self.hits[call] += 1
                if self.hits[call] % 2:
                    raise RefusedError(status, "every other call fails", "backendError")

    def routes(self) -> list[tuple[str, str, tuple[str, ...], Callable[..., Any]]]:
        base = f"/compute/beta/projects/{PROJECT}"
        instance = rf"{base}/zones/([a-z0-9-]+)/instances/([a-z0-9-]+)"
        lists = ("filter", "pageToken", "returnPartialSuccess")
        objects = "/storage/v1/b/([a-z0-9-]+)/o"
        return [
            ("GET", f"{base}/aggregated/instances", lists, self.list_instances),
            ("GET", f"{base}/aggregated/operations", lists, self.list_operations),
            ("GET", instance, (), self.get_instance),
            ("DELETE", instance, (), self.delete_instance),
            ("GET", f"{instance}/getGuestAttributes", ("queryPath",), self.get_guest),
            ("GET", objects, ("prefix", "pageToken"), self.list_objects),
            ("GET", f"{objects}/(.+)", ("alt",), self.get_object),
            ("DELETE", f"{objects}/(.+)", ("ifGenerationMatch",), self.delete_object),
            (
                "POST",
                f"/upload{objects}",
                ("uploadType", "name", "ifGenerationMatch"),
                self.put_object,
            ),
        ]

    def surprise(self, what: str) -> RefusedError:
        self.surprises.append(what)
        return RefusedError(400, f"Invalid: {what}", "invalid")

    def paged(self, items: list[Any], query: dict[str, str]) -> tuple[list[Any], dict[str, str]]:
        start = int(query.get("pageToken", "0"))
        more = {"nextPageToken": str(start + self.page)} if start + self.page < len(items) else {}
        return items[start : start + self.page], more

    def aggregated(
        self, kind: str, wanted: str, items: list[dict[str, Any]], query: dict[str, str]
    ) -> Any:
        if query.get("filter") != wanted:
            raise self.surprise(f"filter {query.get('filter')!r} for {kind}")
        heard = [item for item in items if item["zone"].rpartition("/")[2] not in self.silent]
        shown, more = self.paged(heard, query)
        scopes: dict[str, Any] = {"zones/nowhere-a": {"warning": {"code": "NO_RESULTS_ON_PAGE"}}}
        for item in shown:
            zone = item["zone"].rpartition("/")[2]
            scopes.setdefault(f"zones/{zone}", {kind: []})[kind].append(item)
        return {"items": scopes, **more}

    def list_instances(self, query: dict[str, str], _: bytes) -> Any:
        labelled = [i for i in self.instances.values() if "mayfly" in i.get("labels", {})]
        return self.aggregated("instances", INSTANCES, labelled, query)

    def list_operations(self, query: dict[str, str], _: bytes) -> Any:
        return self.aggregated("operations", OPERATIONS, self.operations, query)

    def find(self, zone: str, name_or_id: str) -> dict[str, Any]:
        if zone in self.silent:
            raise RefusedError(503, f"{zone} does not answer", "backendError")
        for instance in self.instances.values():
            named = name_or_id in (instance["name"], instance["id"])
            if named and instance["zone"].endswith(f"/{zone}"):
                return instance
        raise RefusedError(404, f"The resource '{name_or_id}' was not found", "notFound")

    def get_instance(self, zone: str, name: str, _query: dict[str, str], _body: bytes) -> Any:
        return self.find(zone, name)

    def delete_instance(self, zone: str, name: str, _query: dict[str, str], _body: bytes) -> Any:
        if self.names_only and name.isdigit():
            raise RefusedError(403, "Required 'compute.instances.delete' permission", "forbidden")
        if not self.names_only and not name.isdigit():
            raise self.surprise(f"a delete by name: {name}")
        instance = self.find(zone, name)
        made = self.operation("delete", instance, time.time(), REAPER)
        if self.slow_delete:
            instance["status"] = "STOPPING"
            made["status"] = "RUNNING"
            del made["endTime"]
        else:
            del self.instances[instance["id"]]
        return made

    def get_guest(self, zone: str, name: str, query: dict[str, str], _: bytes) -> Any:
        found = self.guests.get(self.find(zone, name)["id"])
        if query != {"queryPath": "mayfly/"} or found is None:
            raise RefusedError(404, "guest attributes were not found", "notFound")
        items = [{"namespace": "mayfly", "key": k, "value": v} for k, v in found.items()]
        return {"queryPath": "mayfly/", "queryValue": {"items": items}}

    def list_objects(self, bucket: str, query: dict[str, str], _: bytes) -> Any:
        names, more = self.paged(self.names(bucket, query["prefix"]), query)
        items = [
            {
                "name": name,
                "size": str(len(self.objects[bucket, name].data)),
                "generation": str(self.objects[bucket, name].generation),
                "updated": stamp(self.objects[bucket, name].updated),
            }
            for name in names
        ]
        return {"items": items, **more}

    def object(self, bucket: str, name: str) -> Object:
        found = self.objects.get((bucket, name))
        if found is None:
            raise RefusedError(404, f"No such object: {bucket}/{name}", "notFound")
        return found

    def get_object(self, bucket: str, name: str, query: dict[str, str], _: bytes) -> Any:
        if query != {"alt": "media"}:
            raise self.surprise(f"metadata of {name}")
        return self.object(bucket, name)

    def delete_object(self, bucket: str, name: str, query: dict[str, str], _: bytes) -> Any:
        found = self.object(bucket, name)
        if query.get("ifGenerationMatch", str(found.generation)) != str(found.generation):
            raise RefusedError(412, "Precondition Failed", "conditionNotMet")
        del self.objects[bucket, name]
        return None

    def put_object(self, bucket: str, query: dict[str, str], body: bytes) -> Any:
        if query.get("uploadType") != "media":
            raise self.surprise("an upload that is not uploadType=media")
        found = self.objects.get((bucket, query["name"]))
        now = str(found.generation if found else 0)
        if query.get("ifGenerationMatch", now) != now:
            raise RefusedError(412, "Precondition Failed", "conditionNotMet")
        return {"generation": str(self.put(bucket, query["name"], body).generation)}


class Serving:
    """Serves a Google on a free port; `url` ends in "/"."""

    def __init__(self, google: Google) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_any(self) -> None:
                serve(google, self)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = handle_any  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> "Serving":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def serve(google: Google, handler: BaseHTTPRequestHandler) -> None:
    parts = urlsplit(handler.path)
    path = unquote(parts.path)
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    headers = {}
    try:
        if not handler.headers.get("Authorization", "").startswith("Bearer "):
            raise RefusedError(401, "Login Required", "required")
        delays = google.answers_in_s.items()
        time.sleep(sum(seconds for pattern, seconds in delays if re.search(pattern, path)))
        with google.lock:
            google.log.append(f"{handler.command} {path}")
            answer = google.answer(handler.command, path, query, body)
            if isinstance(answer, Object):
                headers["x-goog-generation"] = str(answer.generation)
                answer = answer.data
            else:
                answer = b"" if answer is None else json.dumps(answer).encode()
        status = 200 if answer else 204
    except RefusedError as refusal:
        if refusal.status == 0:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        entry = {"reason": refusal.reason, "message": refusal.message}
        error = {"code": refusal.status, "message": refusal.message, "errors": [entry]}
        status, answer = refusal.status, json.dumps({"error": error}).encode()
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(answer)))
    handler.end_headers()
    handler.wfile.write(answer)


def stamp(at: float) -> str:
    """RFC 3339 as Compute writes it, with a zone that is not UTC."""
    local = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at - 8 * 3600))
    return f"{local}.{int(at % 1 * 1000):03d}-08:00"
