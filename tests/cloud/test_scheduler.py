"""The scheduler: cron in a time zone, jobs that tick, and what Google would refuse."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from local.rest.cron import parse
from local.rest.iam import Accounts
from local.rest.scheduler import Scheduler
from local.rest.world import World
from tests.cloud.conftest import Api, message
from tests.waiting import wait_until

PARENT = "/scheduler/v1/projects/proj/locations/us-central1/jobs"
JOB = f"{PARENT}/tick"
TICKER = "ticker@proj.iam.gserviceaccount.com"


def next_after(schedule: str, moment: str, zone: str = "Etc/UTC") -> str:
    """When `schedule` is due after a moment of UTC, in `zone`'s wall time."""
    start = datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()
    due = parse(schedule, ZoneInfo(zone)).next_after(start)
    return datetime.fromtimestamp(due, ZoneInfo(zone)).strftime("%a %Y-%m-%d %H:%M")


@pytest.mark.parametrize(
    ("schedule", "due"),
    [
        ("*/5 * * * *", "Mon 2026-11-23 15:05"),
        ("* * * * *", "Mon 2026-11-23 15:01"),
        ("0 0 * * *", "Tue 2026-11-24 00:00"),
        ("30 9-17/4 * * mon-fri", "Mon 2026-11-23 17:30"),
        ("0 12 1 jan *", "Fri 2027-01-01 12:00"),
        ("15 10 13 * 5", "Fri 2026-11-27 10:15"),  # both day fields: one is enough
        ("0 0 29 2 *", "Tue 2028-02-29 00:00"),
        ("0 0 * * 7", "Sun 2026-11-29 00:00"),
    ],
)
def test_cron_finds_the_next_time(schedule: str, due: str) -> None:
    """As Unix cron reads it."""
    assert next_after(schedule, "2026-11-23T15:00:30") == due


def test_cron_follows_its_zone_through_a_change_of_clocks() -> None:
    """New York leaves summer time on 1 November 2026."""
    before = next_after("0 9 * * *", "2026-10-31T14:00:00", "America/New_York")

    assert before == "Sun 2026-11-01 09:00"


@pytest.mark.parametrize(
    "schedule", ["* * * *", "60 * * * *", "*/0 * * * *", "a * * * *", "5-1 * * * *"]
)
def test_cron_refuses_what_is_none(schedule: str) -> None:
    """A job that never ticks would end no session."""
    with pytest.raises(ValueError, match=r"minute|fields"):
        parse(schedule, ZoneInfo("UTC"))


class Target:
    """An HTTP server that notes what it is sent."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []
        self.status, self.pause_s, self.running, self.most = 200, 0.0, 0, 0
        target, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                with lock:
                    target.running += 1
                    target.most = max(target.most, target.running)
                    target.seen.append(dict(self.headers))
                time.sleep(target.pause_s)
                with lock:
                    target.running -= 1
                self.send_response(target.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def target() -> Iterator[Target]:
    made = Target()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def ticking(world: World, target: Target) -> Iterator[Target]:
    """The scheduler runs on the real clock."""
    world.clock = time.time
    world.of(Accounts).add(TICKER, {})
    world.of(Scheduler).start()
    return target


def job(target: Target, **fields: Any) -> dict[str, Any]:
    return {
        "name": "projects/proj/locations/us-central1/jobs/tick",
        "schedule": "* * * * *",
        "attemptDeadline": "60s",
        "httpTarget": {"uri": target.url, "oidcToken": {"serviceAccountEmail": TICKER}},
    } | fields


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "schedule": ({"schedule": "every day"}, "Schedule or time zone is invalid: 'every day'"),
    "zone": ({"timeZone": "Mars/Olympus"}, "Time zone is invalid: Mars/Olympus"),
    "short deadline": ({"attemptDeadline": "5s"}, "between 15s and 30m"),
    "long deadline": ({"attemptDeadline": "1801s"}, "between 15s and 30m"),
    "deadline": ({"attemptDeadline": "1m"}, "google.protobuf.Duration"),
    "name": ({"name": "projects/proj/locations/us-central1/jobs/a b"}, "must be formatted"),
    "elsewhere": ({"name": "projects/proj/locations/us-east1/jobs/a"}, "must be formatted"),
    "no target": ({"httpTarget": None}, "exactly one target"),
    "target": ({"httpTarget": {"uri": "reaper"}}, "must be a valid URL"),
    "retries": ({"retryConfig": {"retryCount": 9}}, "between 0 and 5"),
    "body": ({"httpTarget": {"uri": "http://a/", "body": "%"}}, "TYPE_BYTES"),
}


@pytest.mark.parametrize("case", BAD)
def test_job_is_refused_when_google_would_refuse_it(api: Api, target: Target, case: str) -> None:
    """A job that is taken and never calls would leave GPUs running."""
    api.world.of(Accounts).add(TICKER, {})
    fields, text = BAD[case]

    status, answer = api.post(PARENT, job(target, **fields))

    assert status == 400
    assert text in message(answer)


def test_job_is_refused_when_its_account_does_not_exist(api: Api, target: Target) -> None:
    """Its token would be nobody's."""
    status, answer = api.post(PARENT, job(target))

    assert (status, message(answer)) == (404, f"Service account {TICKER} does not exist.")


def test_job_ticks_faster_when_the_speed_is_raised(api: Api, ticking: Target) -> None:
    """A demo cannot wait five minutes; the token is the job's account's, for the target."""
    api.post("/_local/settings", {"scheduler_speedup": 600})
    api.post(PARENT, job(ticking))

    wait_until(lambda: len(ticking.seen) >= 3)

    sent = ticking.seen[0]
    caller = api.world.identity.oidc(sent["Authorization"].split()[1], ticking.url)
    assert caller.email == TICKER
    assert sent["X-CloudScheduler-JobName"] == "tick"
    assert sent["User-Agent"] == "Google-Cloud-Scheduler"
    seen = api.get(JOB)[1]
    assert seen["lastAttemptTime"] < seen["scheduleTime"]


def test_job_waits_when_it_is_paused_and_runs_when_it_is_told(api: Api, ticking: Target) -> None:
    """`jobs.run` is how a person or a test wakes the reaper."""
    api.post("/_local/settings", {"scheduler_speedup": 600})
    api.post(PARENT, job(ticking, schedule="0 0 1 1 *"))
    paused = api.post(f"{JOB}:pause", {})[1]["state"]

    status, _ = api.post(f"{JOB}:run", {})
    wait_until(lambda: api.get(JOB)[1].get("status") == {})

    assert (paused, status, len(ticking.seen)) == ("PAUSED", 200, 1)
    assert api.post(f"{JOB}:resume", {})[1]["state"] == "ENABLED"


def test_job_never_overlaps_itself(api: Api, ticking: Target) -> None:
    """A tick that takes long is not doubled."""
    ticking.pause_s = 0.5
    api.post("/_local/settings", {"scheduler_speedup": 1200})
    api.post(PARENT, job(ticking))

    wait_until(lambda: len(ticking.seen) >= 3)

    assert ticking.most == 1


def test_job_shows_the_failure_of_its_last_attempt(api: Api, ticking: Target) -> None:
    """What the console would show; retries happen only when they are asked for."""
    ticking.status = 403
    retries = {"retryCount": 2, "minBackoffDuration": "0.010s"}
    api.post(PARENT, job(ticking, schedule="0 0 1 1 *", retryConfig=retries))
    api.post(f"{JOB}:run", {})
    refused = wait_until(lambda: api.get(JOB)[1].get("status"))
    outside = {"httpTarget": {"uri": "http://example.com/"}}
    api("PATCH", JOB, job(ticking, schedule="0 0 1 1 *") | outside)
    api.post(f"{JOB}:run", {})
    unreached = wait_until(lambda: _code(api, 14))

    assert (refused["code"], len(ticking.seen)) == (7, 3)
    assert "does not reach http://example.com/" in unreached["message"]


def _code(api: Api, code: int) -> dict[str, Any] | None:
    status = api.get(JOB)[1].get("status", {})
    return status if status.get("code") == code else None


def test_attempt_ends_when_its_deadline_is_over(world: World, target: Target) -> None:
    """Past the deadline the attempt has failed, whatever the function still does."""
    target.pause_s = 1.0
    resource = job(target, attemptDeadline="0.2s")
    resource["httpTarget"] |= {"httpMethod": "POST"}
    resource["retryConfig"] = {"minBackoffDuration": "5s", "maxBackoffDuration": "5s"}

    code, text = world.of(Scheduler).attempts.run(resource)

    assert code == 4
    assert "deadline" in text


def test_job_lives_from_create_to_delete(api: Api, target: Target) -> None:
    """PATCH without a mask replaces the whole job, as the provider wants it."""
    api.world.of(Accounts).add(TICKER, {})
    made = api.post(PARENT, job(target))[1]
    taken = api.post(PARENT, job(target))
    changed = api("PATCH", JOB, job(target, schedule="*/10 * * * *", description="new"))[1]
    gone = api("DELETE", JOB)

    assert (made["state"], made["timeZone"]) == ("ENABLED", "Etc/UTC")
    assert made["httpTarget"]["httpMethod"] == "POST"
    assert (taken[0], gone) == (409, (200, {}))
    assert (changed["schedule"], changed["description"]) == ("*/10 * * * *", "new")
    assert message(api.get(JOB)[1]) == "Job not found."
