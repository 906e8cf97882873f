"""One object for everything that mayfly asks of Google."""

from typing import Any

from mayfly.cloud.compute import Compute
from mayfly.cloud.endpoints import base_url
from mayfly.cloud.http import Call, Http, Retry
from mayfly.cloud.quotas import Quotas
from mayfly.cloud.services import Scheduler, Secrets
from mayfly.cloud.storage import Storage


class Cloud:
    """Google, as mayfly sees it, for one project. Made by `connect`."""

    def __init__(self, project: str, http: Http) -> None:
        self.project = project
        self._http = http
        self.compute = Compute(http, base_url("compute"), project)
        self.storage = Storage(http, base_url("storage"))
        self.secrets = Secrets(http, base_url("secrets"))
        self.scheduler = Scheduler(http, base_url("scheduler"))
        self.quotas = Quotas(http, base_url("quotas"), project)

    @property
    def calls(self) -> int:
        """Requests sent so far, repeats included."""
        return self._http.calls

    @property
    def pages(self) -> int:
        """Those of them that asked for a page of a list."""
        return self._http.pages

    def ask(self, method: str, product: str, path: str, body: Any = None) -> Any:
        """Make one call that has no method of its own; returns the parsed JSON.

        path: below the product's address, "projects/P/...". None when a GET answers 404.
        Only GET, PUT and DELETE are repeated when no clear answer comes.
        """
        repeatable = method in ("GET", "PUT", "DELETE")
        url = base_url(product) + path
        call = Call(method=method, url=url, json=body, repeatable=repeatable)
        missing = frozenset({404}) if method == "GET" else frozenset[int]()
        answer = self._http.send(call, allow=missing)
        return None if answer.missing else answer.json()


def connect(project: str, retry: Retry | None = None) -> Cloud:
    """Open the door to a project; makes no call yet.

    CloudError (reason "no-credentials") when there is nothing to sign with.
    """
    return Cloud(project, Http(retry))
