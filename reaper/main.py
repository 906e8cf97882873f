"""The function's entry point: `tick`, called every five minutes."""

import json
import os
import sys
from dataclasses import asdict
from typing import Any

import functions_framework

from mayfly.cloud import connect
from mayfly.cloud.http import Retry
from mayfly.errors import MayflyError
from reaper.settings import from_environment
from reaper.tick import tick as run_tick

# A run must see every VM though Compute answers slowly: what fails, the next run tries again.
RETRY = Retry(tries=3, first_delay_s=0.5, answer_s=15)


@functions_framework.http
def tick(request: object) -> tuple[dict[str, Any], int]:
    """Observe, decide, act; 200 when that is done, 500 when it could not observe.

    The request is not read: the scheduler has nothing to say, and nobody else should.
    """
    try:
        settings = from_environment(os.environ)
        report = asdict(run_tick(connect(settings.project, RETRY), settings))
    except MayflyError as error:
        _log("ERROR", {"error": str(error)})
        return {"error": str(error)}, 500
    _log("ERROR" if report["errors"] else "INFO", report)
    return report, 200


def _log(severity: str, body: dict[str, Any]) -> None:
    """One line of JSON on stdout, which the platform reads as a structured entry."""
    print(json.dumps({"severity": severity, **body}), flush=True, file=sys.stdout)
