"""Cloud Scheduler: jobs that really tick."""

from __future__ import annotations

import base64
import copy
import re
import threading
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from local.rest.attempts import Attempts
from local.rest.bucket_rules import REGIONS
from local.rest.cron import Cron, parse
from local.rest.errors import ApiError
from local.rest.iam import Accounts
from local.rest.service import Call, Service, require_project
from local.rest.times import stamp
from local.rest.world import World

SERVICE = Service(
    {"/scheduler/": "cloudscheduler.v1"},
    api="cloudscheduler.googleapis.com",
    title="Cloud Scheduler API",
)
NAME = re.compile(r"projects/([^/]+)/locations/([^/]+)/jobs/([a-zA-Z0-9_-]{1,500})")
DURATION = re.compile(r"(\d+(?:\.\d{1,9})?)s")
TARGETS = ("httpTarget", "pubsubTarget", "appEngineHttpTarget")
OUTPUT_ONLY = (
    "state",
    "userUpdateTime",
    "scheduleTime",
    "lastAttemptTime",
    "status",
    "satisfiesPzs",
)
RETRY_DEFAULTS: dict[str, Any] = {
    "maxRetryDuration": "0s",
    "minBackoffDuration": "5s",
    "maxBackoffDuration": "3600s",
    "maxDoublings": 5,
}
IDLE_S = 60.0


@dataclass
class Job:
    """One job: its resource, its schedule, and when it is due in the scheduler's own time."""

    resource: dict[str, Any]
    cron: Cron
    due_at: float = 0.0
    busy: bool = False

    @property
    def name(self) -> str:
        return str(self.resource["name"])

    @property
    def enabled(self) -> bool:
        return self.resource["state"] == "ENABLED"


class Clock:
    """The scheduler's time: it starts as the world's and may run faster."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._real = self._own = world.clock()
        self._speed = float(world.settings["scheduler_speedup"])

    def now(self) -> float:
        self._keep_up()
        return self._own + (self._world.clock() - self._real) * self._speed

    def _keep_up(self) -> None:
        speed = float(self._world.settings["scheduler_speedup"])
        if speed != self._speed:
            real = self._world.clock()
            self._own += (real - self._real) * self._speed
            self._real, self._speed = real, speed

    def real(self, own: float) -> float:
        """When the scheduler's time `own` comes, in the world's; never, when time stands still."""
        now = self.now()
        return self._world.clock() + (own - now) / max(self._speed, 1e-9)


class Scheduler:
    """All jobs by full name, and once `start` was called the thread that runs them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.jobs: dict[str, Job] = {}
        self.clock = Clock(world)
        self.attempts = Attempts(world)
        self._changed = threading.Event()
        self._stopped = False

    def start(self) -> None:
        thread = threading.Thread(target=self._tick, daemon=True, name="scheduler")
        thread.start()
        self.world.on_close(self._stop)

    def _stop(self) -> None:
        self._stopped = True
        self._changed.set()

    def changed(self) -> None:
        """A job or the speed is another: look again."""
        self._changed.set()

    def plan(self, job: Job) -> None:
        """When the job is due next."""
        job.due_at = job.cron.next_after(self.clock.now())
        job.resource["scheduleTime"] = stamp(self.clock.real(job.due_at))

    def _tick(self) -> None:
        while not self._stopped:
            with self.world.lock:
                for job in list(self.jobs.values()):
                    if job.enabled and job.due_at <= self.clock.now():
                        self.fire(job)
                        self.plan(job)
                wait_s = self._until_next()
            self._changed.wait(wait_s)
            self._changed.clear()

    def _until_next(self) -> float:
        """Seconds to wait: at most half a second, for the speed may change meanwhile."""
        times = [self.clock.real(job.due_at) for job in self.jobs.values() if job.enabled]
        soonest = min(times, default=self.world.clock() + IDLE_S) - self.world.clock()
        return min(max(soonest, 0.005), 0.5)

    def fire(self, job: Job) -> None:
        """Start an attempt unless one is still under way: a job never overlaps itself."""
        if job.busy:
            return
        job.busy = True
        job.resource["lastAttemptTime"] = stamp(self.world.clock())
        work = threading.Thread(target=self._attempt, args=(job,), daemon=True, name="attempt")
        work.start()

    def _attempt(self, job: Job) -> None:
        with self.world.lock:
            resource = copy.deepcopy(job.resource)
        try:
            code, message = self.attempts.run(resource)
        finally:
            with self.world.lock:
                job.busy = False
        with self.world.lock:
            job.resource["status"] = {"code": code, "message": message} if code else {}


def _name(call: Call) -> str:
    require_project(call, call["projectsId"])
    return f"projects/{call.world.project}/locations/{call['locationsId']}/jobs/{call['jobsId']}"


def _get(call: Call) -> Job:
    job = call.world.of(Scheduler).jobs.get(_name(call))
    if job is None:
        raise ApiError(404, "Job not found.")
    return job


@SERVICE.method("cloudscheduler.projects.locations.jobs.create")
def create(call: Call) -> dict[str, Any]:
    require_project(call, call["projectsId"])
    world, location = call.world, call["locationsId"]
    if location.upper() not in REGIONS:
        raise ApiError(404, f"Location {location} not found.")
    parent = f"projects/{world.project}/locations/{location}"
    name = call.body.get("name") or f"{parent}/jobs/job-{world.new_id()}"
    if not NAME.fullmatch(name) or not name.startswith(f"{parent}/"):
        raise ApiError(
            400,
            "Job name must be formatted: "
            f'"projects/<PROJECT_ID>/locations/<LOCATION_ID>/jobs/<JOB_ID>". Got {name}.',
        )
    scheduler = world.of(Scheduler)
    if name in scheduler.jobs:
        raise ApiError(409, f"Job {name} already exists.")
    job = _made(call, {k: v for k, v in call.body.items() if k not in OUTPUT_ONLY} | {"name": name})
    scheduler.jobs[name] = job
    scheduler.plan(job)
    scheduler.changed()
    return job.resource


@SERVICE.method("cloudscheduler.projects.locations.jobs.get")
def get(call: Call) -> dict[str, Any]:
    return _get(call).resource


@SERVICE.method("cloudscheduler.projects.locations.jobs.list")
def list_jobs(call: Call) -> dict[str, Any]:
    require_project(call, call["projectsId"])
    start = f"projects/{call.world.project}/locations/{call['locationsId']}/"
    found = call.world.of(Scheduler).jobs
    return {"jobs": [job.resource for name, job in found.items() if name.startswith(start)]}


@SERVICE.method("cloudscheduler.projects.locations.jobs.patch")
def patch(call: Call) -> dict[str, Any]:
    """Without a mask the whole job is replaced, as the provider wants it."""
    scheduler, job = call.world.of(Scheduler), _get(call)
    if job.resource["state"] not in ("ENABLED", "PAUSED"):
        raise ApiError(
            400, "Job is not in a state that can be updated.", status_text="FAILED_PRECONDITION"
        )
    given = {k: v for k, v in call.body.items() if k not in OUTPUT_ONLY}
    mask = [p.split(".")[0] for p in call.query.get("updateMask", "").split(",") if p]
    if mask:
        kept = {k: v for k, v in job.resource.items() if k not in OUTPUT_ONLY and k not in mask}
        given = kept | {k: given[k] for k in mask if k in given}
    fresh = _made(call, given | {"name": job.name})
    state = {
        k: job.resource[k] for k in ("state", "lastAttemptTime", "status") if k in job.resource
    }
    job.resource, job.cron = fresh.resource | state, fresh.cron
    scheduler.plan(job)
    scheduler.changed()
    return job.resource


@SERVICE.method("cloudscheduler.projects.locations.jobs.delete")
def delete(call: Call) -> dict[str, Any]:
    job = _get(call)
    job.resource["state"] = "DISABLED"
    del call.world.of(Scheduler).jobs[job.name]
    return {}


@SERVICE.method(
    "cloudscheduler.projects.locations.jobs.pause", "cloudscheduler.projects.locations.jobs.resume"
)
def switch(call: Call) -> dict[str, Any]:
    scheduler, job = call.world.of(Scheduler), _get(call)
    job.resource["state"] = "PAUSED" if call.method_id.endswith("pause") else "ENABLED"
    scheduler.plan(job)
    scheduler.changed()
    return job.resource


@SERVICE.method("cloudscheduler.projects.locations.jobs.run")
def run(call: Call) -> dict[str, Any]:
    job = _get(call)
    call.world.of(Scheduler).fire(job)
    return job.resource


def _made(call: Call, given: dict[str, Any]) -> Job:
    """A checked job, with what Google adds; 400 for what it refuses."""
    resource = copy.deepcopy(given)
    resource.setdefault("timeZone", "Etc/UTC")
    cron = _cron(resource.get("schedule", ""), resource["timeZone"])
    targets = [t for t in TARGETS if t in resource]
    if len(targets) != 1:
        raise ApiError(400, "Job must have exactly one target.")
    if targets == ["httpTarget"]:
        _check_http(call.world, resource["httpTarget"])
        resource["httpTarget"].setdefault("httpMethod", "POST")
    deadline = resource.setdefault("attemptDeadline", "180s")
    if not 15 <= seconds("attempt_deadline", deadline) <= 1800:
        raise ApiError(400, "Job attempt_deadline must be between 15s and 30m.")
    retry = resource.get("retryConfig", {})
    if not 0 <= retry.get("retryCount", 0) <= 5:
        raise ApiError(400, "Job retry_count must be between 0 and 5.")
    for field in ("maxRetryDuration", "minBackoffDuration", "maxBackoffDuration"):
        seconds(field, retry.get(field, "0s"))
    resource["retryConfig"] = RETRY_DEFAULTS | retry
    resource |= {"state": "ENABLED", "userUpdateTime": stamp(call.world.clock())}
    return Job(resource, cron)


def _cron(schedule: str, zone: str) -> Cron:
    try:
        found = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ApiError(400, f"Time zone is invalid: {zone}") from None
    if not schedule:
        raise ApiError(400, "Schedule must be specified.")
    try:
        cron = parse(schedule, found)
        cron.next_after(0)
    except ValueError as error:
        raise ApiError(400, f"Schedule or time zone is invalid: '{schedule}' ({error}).") from None
    return cron


def _check_http(world: World, target: dict[str, Any]) -> None:
    uri = target.get("uri", "")
    if urlsplit(uri).scheme not in ("http", "https") or not urlsplit(uri).hostname:
        raise ApiError(400, f"Http_target.uri must be a valid URL: '{uri}'.")
    if "oidcToken" in target and "oauthToken" in target:
        raise ApiError(400, "Only one of oauth_token and oidc_token can be set.")
    for kind in ("oidcToken", "oauthToken"):
        email = target.get(kind, {}).get("serviceAccountEmail", "")
        if kind in target and not world.of(Accounts).exists(email):
            raise ApiError(404, f"Service account {email} does not exist.")
    if "body" in target:
        if target.get("httpMethod", "POST") not in ("POST", "PUT", "PATCH"):
            raise ApiError(400, "HTTP body is allowed only for POST, PUT and PATCH.")
        try:
            base64.b64decode(target["body"], validate=True)
        except ValueError:
            raise ApiError(400, "Invalid value at 'job.http_target.body' (TYPE_BYTES)") from None
    for header in target.get("headers", {}):
        if header.lower() == "content-length" or header.lower().startswith(
            ("x-google-", "x-appengine-", "x-cloudscheduler")
        ):
            raise ApiError(400, f"Header {header} is reserved.")


def seconds(field: str, text: str) -> float:
    """Of a google-duration, "600s"; 400 for another text."""
    found = DURATION.fullmatch(text)
    if not found:
        raise ApiError(
            400,
            f"Invalid value at 'job.{field}' "
            f'(type.googleapis.com/google.protobuf.Duration), "{text}"',
        )
    return float(found[1])
