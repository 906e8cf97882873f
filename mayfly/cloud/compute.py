"""Compute Engine: what mayfly asks of it, one call a method."""

from collections.abc import Iterator
from typing import Any

from mayfly.cloud.http import Call, Http

MISSING = frozenset({404})


class Compute:
    """Instances and their operations in one project."""

    def __init__(self, http: Http, base: str, project: str) -> None:
        self._http = http
        self._project_url = f"{base}projects/{project}"

    def instances(self, filter: str) -> Iterator[dict[str, Any]]:
        """Yield instances of all zones that match a filter, page by page.

        A zone that does not answer is left out, so absence here does not prove that a VM is
        gone; `instance` does.
        """
        return self._aggregated("instances", filter)

    def operations(self, filter: str) -> Iterator[dict[str, Any]]:
        """Yield zone operations that match a filter; Google keeps them for about 14 days."""
        return self._aggregated("operations", filter)

    def disks(self, filter: str) -> Iterator[dict[str, Any]]:
        """Yield disks of all zones that match a filter."""
        return self._aggregated("disks", filter)

    def addresses(self, filter: str) -> Iterator[dict[str, Any]]:
        """Yield reserved addresses of all regions that match a filter."""
        return self._aggregated("addresses", filter)

    def instance(self, zone: str, name_or_id: str) -> dict[str, Any] | None:
        """Read one instance; None when there is none."""
        return self._read(self._instance_url(zone, name_or_id))

    def delete_instance(self, zone: str, name_or_id: str) -> str | None:
        """Start a delete and return the operation's name; None when there is no such VM.

        name_or_id: best the number: a new VM under the old name is then safe.
        """
        call = Call(method="DELETE", url=self._instance_url(zone, name_or_id))
        answer = self._http.send(call, allow=MISSING)
        return None if answer.missing else str(answer.json()["name"])

    def operation(self, zone: str, name: str) -> dict[str, Any] | None:
        """Read one zone operation; None when Google no longer (or not yet) has it."""
        return self._read(f"{self._project_url}/zones/{zone}/operations/{name}")

    def guest_attributes(self, zone: str, name: str, query_path: str) -> dict[str, str] | None:
        """Read what the guest wrote under a namespace ("mayfly/"), keyed without it.

        None when nothing was written yet. Any process on the VM can write these.
        """
        url = self._instance_url(zone, name) + "/getGuestAttributes"
        found = self._read(url, {"queryPath": query_path})
        if found is None:
            return None
        items = found.get("queryValue", {}).get("items", [])
        return {str(item["key"]): str(item.get("value", "")) for item in items}

    def serial_output(self, zone: str, name: str, start: int = 0) -> tuple[str, int]:
        """Read the serial console from byte `start`; returns the text and the next start."""
        url = self._instance_url(zone, name) + "/serialPort"
        found = self._read(url, {"port": 1, "start": start})
        if found is None:
            return "", start
        return str(found.get("contents", "")), int(found.get("next", start))

    def capacity_advice(self, region: str, machine: str, zone: str) -> dict[str, Any]:
        """Ask how likely one spot VM of this type is to be had in a zone right now."""
        body = {
            "size": 1,
            "instanceProperties": {"scheduling": {"provisioningModel": "SPOT"}},
            "instanceFlexibilityPolicy": {
                "instanceSelections": {"only": {"machineTypes": [machine]}}
            },
            "distributionPolicy": {
                "zones": [{"zone": f"zones/{zone}"}],
                "targetShape": "ANY_SINGLE_ZONE",
            },
        }
        return self._advice(region, "capacity", body)

    def capacity_history(self, region: str, machine: str, zone: str) -> dict[str, Any]:
        """Ask for a spot VM's preemptions (30 days) and list prices (a year) in a zone."""
        body = {
            "types": ["PREEMPTION", "PRICE"],
            "instanceProperties": {
                "machineType": machine,
                "scheduling": {"provisioningModel": "SPOT"},
            },
            "locationPolicy": {"location": f"zones/{zone}"},
        }
        return self._advice(region, "capacityHistory", body)

    def _advice(self, region: str, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        url = f"{self._project_url}/regions/{region}/advice/{kind}"
        answer: dict[str, Any] = self._http.send(Call(method="POST", url=url, json=body)).json()
        return answer

    def _instance_url(self, zone: str, name_or_id: str) -> str:
        return f"{self._project_url}/zones/{zone}/instances/{name_or_id}"

    def _read(self, url: str, params: dict[str, str | int] | None = None) -> dict[str, Any] | None:
        call = Call(method="GET", url=url, params=params)
        answer = self._http.send(call, allow=MISSING)
        if answer.missing:
            return None
        body: dict[str, Any] = answer.json()
        return body

    def _aggregated(self, kind: str, filter: str) -> Iterator[dict[str, Any]]:
        params: dict[str, str | int] = {"filter": filter, "returnPartialSuccess": "true"}
        while True:
            url = f"{self._project_url}/aggregated/{kind}"
            call = Call(method="GET", url=url, params=params, page=True)
            page = self._http.send(call).json()
            for scope in page.get("items", {}).values():
                yield from scope.get(kind, [])
            token = page.get("nextPageToken")
            if not token:
                return
            params["pageToken"] = token
