"""All checks at once, each by itself, in bounded time; what cannot be seen is said to be so."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from mayfly.cloud import Cloud, CloudError, connect
from mayfly.cloud.http import Retry
from mayfly.doctor import access, desk, launching, remains, state
from mayfly.doctor.finding import Finding
from mayfly.doctor.site import Foundation, Site, foundation
from mayfly.errors import MayflyError

AT_ONCE = 16
LIMIT_S = 60.0
"""For each of the two rounds; who has not answered by then is not known."""
PATIENCE = Retry(tries=2, answer_s=15.0)
CREDENTIALS = "credentials"

Judge = Callable[[Site, Any], Iterator[Finding]]
DESK: Mapping[str, tuple[Callable[[Site], Any], Judge]] = {
    "gcloud": (desk.look_gcloud, desk.judge_gcloud),
    "engine": (desk.look_engine, desk.judge_engine),
    "sdk": (desk.look_sdk, desk.judge_sdk),
    "backend": (desk.look_backend, desk.judge_backend),
    "prices": (desk.look_prices, desk.judge_prices),
}
PROJECT: Mapping[str, tuple[Callable[[Site, Cloud, Foundation], Any], Judge]] = {
    "billing": (access.look_billing, access.judge_billing),
    "apis": (access.look_apis, access.judge_apis),
    "rights": (access.look_rights, access.judge_rights),
    "tunnel": (access.look_tunnel, access.judge_tunnel),
    "policies": (access.look_policies, access.judge_policies),
    "state": (state.look_state, state.judge_state),
    "foundation": (launching.look_foundation, launching.judge_foundation),
    "reaper": (state.look_reaper, state.judge_reaper),
    "locks": (state.look_locks, state.judge_locks),
    "quota": (launching.look_quota, launching.judge_quota),
    "network": (launching.look_network, launching.judge_network),
    "weights": (launching.look_weights, launching.judge_weights),
    "machines": (remains.look_machines, remains.judge_machines),
    "disks": (remains.look_disks, remains.judge_disks),
    "addresses": (remains.look_addresses, remains.judge_addresses),
}
CHECKS = (CREDENTIALS, *PROJECT, *DESK)


@dataclass
class Report:
    """findings: by check. unknown: check -> why it was not made. A check in neither is fine."""

    findings: dict[str, list[Finding]] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)

    @property
    def all(self) -> list[Finding]:
        """The grave ones first, else in the order in which one thing rests on another."""
        found = [f for check in CHECKS for f in self.findings.get(check, ())]
        return sorted(found, key=lambda finding: not finding.grave)

    @property
    def fine(self) -> list[str]:
        return [c for c in CHECKS if not self.findings.get(c) and c not in self.unknown]


def examine(site: Site) -> Report:
    """Every check. Never raises for what a check runs into."""
    report = Report()
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="doctor")
    try:
        first: dict[str, Callable[[], Any]] = {CREDENTIALS: lambda: see_credentials(site)}
        first |= {name: bound(look, site) for name, (look, _) in DESK.items()}
        seen = ask(pool, first, report)
        judge_all(site, seen, report)
        cloud, base = seen.get(CREDENTIALS, (None, None, None))[1:]
        if cloud is None or base is None:
            why = f"it needs what {CREDENTIALS} did not get"
            report.unknown |= dict.fromkeys(PROJECT, why)
            return report
        rest = {name: bound(look, site, cloud, base) for name, (look, _) in PROJECT.items()}
        judge_all(site, ask(pool, rest, report), report)
    finally:
        # Whoever hangs ends by its own time limit; nobody waits for it here.
        pool.shutdown(wait=False, cancel_futures=True)
    return report


def see_credentials(site: Site) -> tuple[access.Door, Cloud | None, Foundation | None]:
    """What Google says at the door and, where it lets us in, the way in and the foundation."""
    try:
        cloud = connect(site.project, PATIENCE)
    except CloudError as error:
        return access.refused(error), None, None
    door = access.look_credentials(site, cloud)
    if door.kind:
        return door, None, None
    return door, cloud, foundation(site, cloud)


def bound(look: Callable[..., Any], *words: Any) -> Callable[[], Any]:
    return lambda: look(*words)


def ask(
    pool: ThreadPoolExecutor, looks: Mapping[str, Callable[[], Any]], report: Report
) -> dict[str, Any]:
    """What each look saw; in the report why one saw nothing."""
    futures = {name: pool.submit(look) for name, look in looks.items()}
    done, _ = wait(futures.values(), LIMIT_S)
    seen: dict[str, Any] = {}
    for name, future in futures.items():
        why = trouble(future) if future in done else f"no answer within {LIMIT_S:.0f} s"
        if why:
            report.unknown[name] = why
        else:
            seen[name] = future.result()
    return seen


def trouble(future: "Future[Any]") -> str:
    """Why a look saw nothing, in a line; a mistake of ours in one must not hide what others saw."""
    error = future.exception()
    if error is None:
        return ""
    if isinstance(error, CloudError):
        return error.message
    if isinstance(error, MayflyError):
        return error.what
    return f"{type(error).__name__}: {error}"


def judge_all(site: Site, seen: Mapping[str, Any], report: Report) -> None:
    for name, what in seen.items():
        if name == CREDENTIALS:
            found = list(access.judge_credentials(site, what[0]))
        else:
            found = list((DESK | PROJECT)[name][1](site, what))  # type: ignore[operator]
        if found:
            report.findings[name] = found
