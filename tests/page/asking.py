"""Requests to the page that no browser made: their headers can say anything."""

import http.client
import json

from tests.page.crew import Dashboard


def ask(
    dashboard: Dashboard, method: str, path: str, *, body: object = None, **headers: str
) -> tuple[int, str]:
    """Status, and headers and body in one text, of a request that no browser made."""
    host = dashboard.address.removeprefix("http://")
    line = http.client.HTTPConnection(host, timeout=30)
    given = {"Host": host, **{name.replace("_", "-"): text for name, text in headers.items()}}
    try:
        line.request(method, path, json.dumps(body) if body is not None else None, given)
        answer = line.getresponse()
        return answer.status, f"{answer.headers}{answer.read().decode()}"
    finally:
        line.close()


def swap(dashboard: Dashboard) -> str:
    """The cookie for the token, as a `Cookie` header."""
    status, text = post(dashboard, "/enter", {"token": dashboard.token})
    assert status == 200, text
    return text.partition("set-cookie: ")[2].partition(";")[0]


def post(dashboard: Dashboard, path: str, body: object, **headers: str) -> tuple[int, str]:
    given = {"Content_Type": "application/json", "Origin": dashboard.address, **headers}
    return ask(dashboard, "POST", path, body=body, **given)
