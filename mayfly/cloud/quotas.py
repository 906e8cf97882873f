"""Cloud Quotas: limits, and what a project would like them to be."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from mayfly.cloud.http import Call, Http

PAGE_SIZE = 500


class Quotas:
    """Compute's limits in one project. The v1 API; every answer as Google sends it."""

    def __init__(self, http: Http, base: str, project: str) -> None:
        self._http = http
        self._url = f"{base}projects/{project}/locations/global"

    def infos(self, service: str) -> Iterator[dict[str, Any]]:
        """Yield every limit of a service ("compute.googleapis.com"), page by page."""
        return self._listed(f"services/{service}/quotaInfos", "quotaInfos")

    def preferences(self) -> Iterator[dict[str, Any]]:
        """Yield every request for another limit that was ever made, with its state."""
        return self._listed("quotaPreferences", "quotaPreferences")

    def request(self, preference_id: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for another limit; returns the preference, with what was granted of it.

        CloudError 409 where there is one for the same limit, under whatever id.
        """
        call = Call(
            method="POST",
            url=f"{self._url}/quotaPreferences",
            params={"quotaPreferenceId": preference_id},
            json=dict(wanted),
            repeatable=False,
        )
        return self._preference(call)

    def change(self, name: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Change what an earlier request asks for. name: "projects/P/...", its full one."""
        preference_id = quote(name.rpartition("/")[2], safe="")
        url = f"{self._url}/quotaPreferences/{preference_id}"
        return self._preference(Call(method="PATCH", url=url, json=dict(wanted)))

    def _preference(self, call: Call) -> dict[str, Any]:
        answer: dict[str, Any] = self._http.send(call).json()
        return answer

    def _listed(self, path: str, kind: str) -> Iterator[dict[str, Any]]:
        params: dict[str, str | int] = {"pageSize": PAGE_SIZE}
        while True:
            call = Call(method="GET", url=f"{self._url}/{path}", params=params, page=True)
            page = self._http.send(call).json()
            yield from page.get(kind, [])
            token = page.get("nextPageToken")
            if not token:
                return
            params["pageToken"] = token
