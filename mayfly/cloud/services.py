"""The small products: secrets, and the scheduler that wakes the reaper."""

import base64

from mayfly.cloud.http import Call, Http


class Secrets:
    """Values in Secret Manager."""

    def __init__(self, http: Http, base: str) -> None:
        self._http, self._base = http, base

    def access(self, name: str) -> str | None:
        """Read the newest version of a secret; None when there is none.

        name: "projects/P/secrets/S", or with "/versions/V".
        """
        version = name if "/versions/" in name else f"{name}/versions/latest"
        call = Call(method="GET", url=f"{self._base}{version}:access")
        answer = self._http.send(call, allow=frozenset({404}))
        if answer.missing:
            return None
        return base64.b64decode(answer.json()["payload"]["data"]).decode()


class Scheduler:
    """Jobs in Cloud Scheduler."""

    def __init__(self, http: Http, base: str) -> None:
        self._http, self._base = http, base

    def run(self, job: str) -> None:
        """Run a job now; it does not wait for what the job does.

        job: "projects/P/locations/L/jobs/J".
        """
        url = f"{self._base}{job}:run"
        self._http.send(Call(method="POST", url=url, json={}, repeatable=False))
