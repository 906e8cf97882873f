"""`mayfly connect`: the session's endpoint on this machine until Ctrl-C, over every broken line."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from mayfly import idle, remote, vms, watch
from mayfly.cloud import Cloud, CloudError
from mayfly.errors import FailedError
from mayfly.project import find_project
from mayfly.talk import tell
from mayfly.tunnel import ENDPOINT_PORT, Tunnel, free_port, wished_port

FIRST_ANSWER_S = 60
CHECK_EVERY_S = 5.0
CHECKS_MISSED = 3
LONGEST_PAUSE_S = 15.0
LOOK_EVERY_S = 2.0
PATIENCE_S = 900.0
"""For how long Google, or this machine's network, may be gone before a connection is given up."""

Seen = TypeVar("Seen")


class EndedError(FailedError):
    """The session's VM does not serve, and will not."""


def run(session: str, *, port: str, show_key: bool, as_json: bool) -> None:
    """Hold the tunnel until Ctrl-C or SIGTERM; returns then. Raises when the session is gone."""
    place, local_port = serving(session, port)
    cloud, vm = place.cloud, place.vm
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with opened(place, local_port) as tunnel:
            announce(facts(cloud, vm, tunnel, show_key), as_json)
            hold(cloud, vm, tunnel)
    except KeyboardInterrupt:
        tell("Disconnected. The session goes on until it is idle; `mayfly down` ends it now.")


def serving(session: str, port: str) -> tuple[remote.Place, int]:
    """The session once it serves, and a free port here. port: the one that is wished, or ""."""
    if session:
        vms.check_session_name(session)
    wanted = wished_port(port)
    place = remote.find(session)
    wait_serving(place.cloud, place.vm)
    usual = default_port(place.vm.session)
    local_port = wanted or free_port(usual)  # last: a start takes minutes
    if not port and local_port != usual:
        tell(f"Port {usual} is in use; taking {local_port}.")
    return place, local_port


@contextmanager
def opened(place: remote.Place, local_port: int) -> Iterator[Tunnel]:
    """The tunnel, once the endpoint answers through it; gone afterwards."""
    with Tunnel(place.vm, place.project, local_port) as tunnel:
        if not tunnel.wait_healthy(FIRST_ANSWER_S):
            raise no_answer(place.vm, tunnel)
        yield tunnel


def default_port(session: str) -> int:
    """The port in the session's own configuration, so that its endpoint_url holds."""
    written = str(find_project().config(session).get("mayfly:localPort", ""))
    return int(written) if written.isdigit() and 1 <= int(written) <= 65535 else ENDPOINT_PORT


def wait_serving(cloud: Cloud, vm: vms.Vm) -> None:
    """Wait while the VM starts; its own rule bounds that. EndedError when it will not serve."""
    told = ""
    limits = vm.limits()
    while True:
        now, observed, said = patiently(lambda: looked_at(cloud, vm))
        phase = observed.phase or "booting"
        if phase == "serving" and now.status == "RUNNING":
            return
        verdict = idle.verdict(observed, limits, time.time()) if limits else None
        if phase not in idle.STARTING or now.status in idle.GONE or (verdict and verdict.end):
            raise ended(vm, vms.printable(said.get("message", "")) or f"it is {phase}")
        if phase != told:
            told = phase
            tell(f"{vm.session} is not serving yet: {phase}")
        time.sleep(LOOK_EVERY_S)


def looked_at(cloud: Cloud, vm: vms.Vm) -> tuple[vms.Vm, idle.Observation, dict[str, str]]:
    """The VM as it is now, and what it claims. EndedError when it is gone."""
    instance = cloud.compute.instance(vm.zone, vm.id)
    if instance is None:
        raise ended(vm, "it is gone")
    now = vms.parse(instance)
    return now, *vms.look(cloud, now)


def patiently(ask: Callable[[], Seen]) -> Seen:
    """What Google answers; asked again while nobody answers, said once, within PATIENCE_S."""
    until, told = time.monotonic() + PATIENCE_S, False
    while True:
        try:
            return ask()
        except CloudError as error:
            if not error.passes or time.monotonic() > until:
                raise
            if not told:
                tell(f"{error.message}; asking again, for {PATIENCE_S / 60:.0f} min at most.")
        told = True
        time.sleep(LOOK_EVERY_S)


def ended(vm: vms.Vm, why: str) -> EndedError:
    return EndedError(
        f"Session {vm.session} does not serve: {why}.",
        "What it has cost and whether it still runs: mayfly status",
        "Try: pulumi up --stack " + vm.session,
    )


def wait_session(cloud: Cloud, vm: vms.Vm) -> vms.Vm:
    """Wait until the VM serves, or the next one in its place while `mayfly up --watch` brings one
    up: that VM. EndedError when neither will."""
    while True:
        try:
            wait_serving(cloud, vm)
        except EndedError:
            found = next_vm(cloud, vm)
            if found is None:
                raise
            vm = found
        else:
            return vm


def next_vm(cloud: Cloud, vm: vms.Vm) -> vms.Vm | None:
    """Wait for another VM of the session; None once nobody brings one up."""
    bucket, told = str(vm.settings.get("state_bucket") or ""), False
    while bucket and patiently(lambda: watch.held(cloud, bucket, vm.session)):
        for one in patiently(lambda: vms.sessions(cloud)):
            if one.session == vm.session and one.id != vm.id and one.status not in idle.GONE:
                return one
        if not told:
            tell(f"{vm.name} in {vm.zone} is gone; `mayfly up --watch` brings up another.")
        told = True
        time.sleep(LOOK_EVERY_S)
    return None


def no_answer(vm: vms.Vm, tunnel: Tunnel) -> FailedError:
    status = tunnel.exit_status()
    what = "did not answer" if status is None else f"ended with status {status} (its words above)"
    return FailedError(
        f"The tunnel to {vm.name} {what}.",
        "The session runs on and costs money until it is idle.",
        f"Try: gcloud compute ssh {vm.name} --zone {vm.zone} --tunnel-through-iap --troubleshoot",
    )


def facts(cloud: Cloud, vm: vms.Vm, tunnel: Tunnel, show_key: bool) -> dict[str, Any]:
    """What a client needs to know."""
    secret = str(vm.settings.get("api_key_secret") or "")
    found: dict[str, Any] = {
        "session": vm.session,
        "base_url": f"{tunnel.base_url}/v1",
        "port": tunnel.port,
        "model": vm.settings.get("served_model"),
        "pid": os.getpid(),
    }
    if show_key:
        key = cloud.secrets.access(secret) if secret else None
        if key is None:
            raise FailedError(
                f"The API key cannot be read: there is no secret {secret or '(none named)'}.",
                "The session is unchanged.",
                "Try: pulumi stack output api_key --show-secrets --stack foundation",
            )
        found["api_key"] = key
    return found


def announce(found: dict[str, Any], as_json: bool) -> None:
    """Say that the endpoint is there; stdout holds what a script wants."""
    if as_json:
        print(json.dumps(found), flush=True)
        return
    print(f"export OPENAI_BASE_URL={found['base_url']}", flush=True)
    if "api_key" in found:
        print(f"export OPENAI_API_KEY={found['api_key']}", flush=True)
    else:
        tell("The key: mayfly connect --show-key")
    tell(f"{found['session']} answers at {found['base_url']} (model {found['model']}).")
    tell("Ctrl-C disconnects; an open tunnel alone does not keep the session.")


def hold(cloud: Cloud, vm: vms.Vm, tunnel: Tunnel) -> None:
    """Watch the tunnel and start it again when it breaks, to the session's next VM if need be.

    Raises when the session no longer serves.
    """
    missed, pause_s, said = 0, 1.0, False
    while True:
        tunnel.wait_end(CHECK_EVERY_S)
        if tunnel.exit_status() is None and tunnel.healthy():
            missed, pause_s, said = 0, 1.0, False
            continue
        missed += 1
        if tunnel.exit_status() is None and missed < CHECKS_MISSED:
            continue
        if not said:
            tell("The line broke; connecting again.")
        said = True
        tunnel.stop()
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        vm = wait_session(cloud, vm)
        tunnel.lead_to(vm)
        tunnel.start()
        if tunnel.wait_healthy(FIRST_ANSWER_S):
            missed = 0
            tell("Connected again.")
