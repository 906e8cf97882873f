"""This machine: gcloud, Pulumi, the program's packages, where states are kept, how old prices are.

A `look_...` asks, a `judge_...` only thinks.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata

from mayfly import pricing
from mayfly.doctor.finding import Finding
from mayfly.doctor.kinds import kind
from mayfly.doctor.site import CannotLookError, Site
from mayfly.engine import Engine
from mayfly.errors import MayflyError
from mayfly.pricing import Rate
from mayfly.project import read_yaml
from mayfly.setup import stacks

ANSWER_S = 20.0
VERSION = re.compile(r"\d+(?:\.\d+)+")
SDKS = ("pulumi", "pulumi-gcp", "pulumi-command")


def said(*command: str) -> str:
    """What a program prints. CannotLookError where it fails or is silent for long."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotLookError(f"`{' '.join(command)}`: {error}") from error
    if done.returncode:
        why = " ".join(done.stderr.split())[-200:]
        raise CannotLookError(f"`{' '.join(command)}` ended with {done.returncode}: {why}")
    return done.stdout.strip()


@dataclass(frozen=True)
class Gcloud:
    there: bool
    account: str = ""


def look_gcloud(site: Site) -> Gcloud:
    path = shutil.which("gcloud")
    if path is None:
        return Gcloud(there=False)
    account = said(path, "auth", "list", "--filter=status:ACTIVE", "--format=value(account)")
    return Gcloud(there=True, account=account)


def judge_gcloud(site: Site, seen: Gcloud) -> Iterator[Finding]:
    if not seen.there:
        yield kind("gcloud-missing").finding("There is no gcloud on PATH.")
    elif not seen.account:
        yield kind("gcloud-no-account").finding("gcloud has no active account.")


@dataclass(frozen=True)
class Pulumi:
    """version: "" where there is none. wanted: the least that Pulumi.yaml names, or ""."""

    version: str
    wanted: str


def look_engine(site: Site) -> Pulumi:
    path = shutil.which("pulumi")
    required = read_yaml(site.checkout.root / "Pulumi.yaml").get("requiredPulumiVersion")
    least = str(required or "").partition(">=")[2].strip()
    return Pulumi(said(path, "version") if path else "", least)


def judge_engine(site: Site, seen: Pulumi) -> Iterator[Finding]:
    if not seen.version:
        yield kind("pulumi-missing").finding("There is no pulumi on PATH.")
    elif seen.wanted and numbers(seen.version) < numbers(seen.wanted):
        what = f"pulumi on PATH is {seen.version}."
        yield kind("pulumi-old").finding(what, wanted=seen.wanted)


def numbers(version: str) -> tuple[int, ...]:
    """ "v3.259.0" -> (3, 259, 0); () for what is none."""
    found = VERSION.search(version)
    return tuple(map(int, found[0].split("."))) if found else ()


@dataclass(frozen=True)
class Packages:
    """installed, locked: by package. folder: the environment that Pulumi.yaml names and lacks."""

    installed: Mapping[str, str]
    locked: Mapping[str, str]
    folder: str = ""


def look_sdk(site: Site) -> Packages:
    root = site.checkout.root
    lock = root / "requirements.lock"
    pins = re.findall(r"^([\w.-]+)==([\w.]+)", lock.read_text() if lock.is_file() else "", re.M)
    runtime = read_yaml(root / "Pulumi.yaml").get("runtime")
    options = runtime.get("options") or {} if isinstance(runtime, dict) else {}
    folder = str(options.get("virtualenv") or "")
    lacks = bool(folder) and not (root / folder / "bin/python").exists()
    installed = {name: metadata.version(name) for name in SDKS}
    return Packages(installed, dict(pins), str(root / folder) if lacks else "")


def judge_sdk(site: Site, seen: Packages) -> Iterator[Finding]:
    if seen.folder:
        yield kind("python-missing").finding(f"There is no {seen.folder}/bin/python.")
    for name, version in seen.installed.items():
        if seen.locked.get(name, version) != version:
            what = f"{name} is {version}, requirements.lock says {seen.locked[name]}."
            yield kind("sdk-other").finding(what)


def look_backend(site: Site) -> str:
    """Where pulumi keeps its states; "" for nowhere."""
    try:
        return Engine(site.checkout).backend().rstrip("/")
    except MayflyError as error:
        raise CannotLookError(error.what) from error


def judge_backend(site: Site, seen: str) -> Iterator[Finding]:
    if not seen:
        yield kind("backend-none").finding("pulumi is logged in nowhere.", bucket=site.bucket)
    elif seen != stacks.backend(site.bucket):
        what = f"pulumi keeps its states in {seen}."
        yield kind("backend-other").finding(what, bucket=site.bucket)


def look_prices(site: Site) -> Rate | None:
    """The rate that a launch would be metered by, from the shipped table."""
    return pricing.lookup(site.machine, site.zone, site.provisioning)


def judge_prices(site: Site, seen: Rate | None) -> Iterator[Finding]:
    warning = seen.warning(site.today) if seen else ""
    if warning:
        yield kind("price-old").finding(warning, profile=site.profile.name)
