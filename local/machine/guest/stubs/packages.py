"""apt-get, apt-cache and apt-mark over a small world of packages."""

import fnmatch
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import archive
import driver
from archive import Package
from stub import config, fail

from stubs.database import installed, interrupted, is_installed, store, unpack, withdraw

LISTS = "/var/lib/apt/lists"
ARCHIVES = "/var/cache/apt/archives"
FLAGS = (
    *("-y", "--yes", "--assume-yes", "-q", "-qq", "--quiet", "-f", "--no-install-recommends"),
    *("--allow-downgrades", "--allow-change-held-packages", "--reinstall", "--only-upgrade"),
    *("-d", "--download-only", "--no-upgrade", "--purge", "--autoremove"),
)
OPTIONS = re.compile(
    r"(Dir::Etc::source(list|parts)|Dir::State::(lists|status)|Dir::Cache::\w+|APT::Architecture"
    r"|DPkg::Lock::Timeout|Acquire::Retries|APT::Install-Recommends|Dpkg::Use-Pty"
    r"|Dpkg::Options::|APT::Update::Error-Mode)=.*"
)
SOURCES = {
    "ubuntu": "deb http://archive.ubuntu.com/ubuntu {c} main restricted universe\n",
    "debian": "deb http://deb.debian.org/debian {c} main\n",
}


@dataclass
class Call:
    """One apt-get command line."""

    verb: str = ""
    words: list[str] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    options: dict[str, str] = field(default_factory=dict)

    @property
    def download_only(self) -> bool:
        return bool(self.flags & {"-d", "--download-only"})


def main(name: str, argv: list[str]) -> int:
    tools = {"apt-get": apt_get, "apt-cache": apt_cache, "apt-mark": apt_mark}
    return tools[name](argv)


def parse(argv: list[str]) -> Call | str:
    """The call, or what apt-get says about an option it does not know."""
    call, rest = Call(), list(argv)
    while rest:
        word = rest.pop(0)
        if word in ("-o", "--option") or word.startswith("-o"):
            value = word[2:] if word.startswith("-o") and len(word) > 2 else rest.pop(0)
            if not OPTIONS.fullmatch(value):
                return f"E: this machine's apt-get does not know the option {value}"
            key, _, setting = value.partition("=")
            call.options[key] = setting
        elif word in FLAGS:
            call.flags.add(word)
        elif word.startswith("-"):
            return (
                f"E: Command line option '{word}' [from {word}] is not understood in combination "
                "with the other options."
            )
        elif not call.verb:
            call.verb = word
        else:
            call.words.append(word)
    return call


def apt_get(argv: list[str]) -> int:
    call = parse(argv)
    if isinstance(call, str):
        return fail(call, 100)
    verbs = {"update": update, "install": install, "remove": remove, "purge": remove}
    if call.verb in ("clean", "autoremove", "autoclean"):
        return 0
    if call.verb not in verbs:
        return fail(f"E: Invalid operation {call.verb}", 100)
    return verbs[call.verb](call)


def source_text(call: Call) -> str:
    """What the sources lists say: the image's, or the one that the call names."""
    path = call.options.get("Dir::Etc::sourcelist")
    if path:
        return Path(path).read_text() if Path(path).exists() else ""
    release = dict(
        line.split("=", 1)
        for line in Path("/etc/os-release").read_text().splitlines()
        if "=" in line
    )
    codename = release.get("VERSION_CODENAME", "jammy").strip('"')
    return SOURCES.get(release.get("ID", "ubuntu").strip('"'), "").format(c=codename)


def hosts(text: str) -> list[tuple[str, str]]:
    """(URL, suite) of each line."""
    found = re.findall(r"^deb (?:\[[^]]*\] )?(\S+) (\S+)", text, re.MULTILINE)
    return list(dict.fromkeys(found))


def update(call: Call) -> int:
    """Fetch the lists. Without a way out apt-get only warns, and exits 0."""
    lists = Path(call.options.get("Dir::State::lists", LISTS))
    lines = hosts(source_text(call))
    if config()["internet"]:
        lists.mkdir(parents=True, exist_ok=True)
        for number, (url, suite) in enumerate(lines, 1):
            print(f"Get:{number} {url} {suite} InRelease [270 kB]")
            mark = re.sub(r"^\w+://", "", url).replace("/", "_")
            (lists / f"{mark}_dists_{suite}_InRelease").write_text(url)
        print("Reading package lists...")
        return 0
    for number, (url, suite) in enumerate(lines, 1):
        host = url.split("/")[2]
        print(f"Err:{number} {url} {suite} InRelease\n  Could not connect to {host}:80, timed out")
        fail(f"W: Failed to fetch {url}/dists/{suite}/InRelease  Could not connect to {host}:80")
    return fail(
        "W: Some index files failed to download. They have been ignored, or old ones used instead.",
        0 if call.options.get("APT::Update::Error-Mode") != "any" else 100,
    )


def known(call: Call) -> dict[str, Package]:
    """What the fetched lists offer."""
    lists = Path(call.options.get("Dir::State::lists", LISTS))
    if not any(lists.glob("*InRelease")):
        return {}
    return archive.world(source_text(call))


def wait_for_lock(call: Call) -> int:
    """The image's own upgrades hold dpkg's lock for a while after boot, if a setting says so."""
    held_until = float(config()["settings"]["apt_lock_s"]) + float(driver.BOOTED.read_text())
    patience_s = float(call.options.get("DPkg::Lock::Timeout", "0"))
    deadline = time.time() + patience_s
    if patience_s and time.time() < held_until:
        print(
            "Waiting for cache lock: Could not get lock /var/lib/dpkg/lock-frontend. It is held by "
            "process 812 (unattended-upgr)...",
            flush=True,
        )
    while time.time() < held_until:
        if time.time() >= deadline:
            fail(
                "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 812 "
                "(unattended-upgr)"
            )
            return fail(
                "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is "
                "another process using it?",
                100,
            )
        time.sleep(0.2)
    return 0


def install(call: Call) -> int:
    """Local .deb files, and names from the archive where there is a way out."""
    if not call.download_only:
        if wait_for_lock(call):
            return 100
        if interrupted():
            return fail(
                "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct "
                "the problem. ",
                100,
            )
    fresh = "Dir::State::status" in call.options
    have = {} if fresh else installed()
    offered, local = known(call), {}
    names = []
    for word in call.words:
        if "/" in word:
            try:
                package = archive.read(Path(word))
            except FileNotFoundError:
                return fail(f"E: Unsupported file {word} given on commandline", 100)
            except ValueError as error:
                return fail(f"E: Sub-process dpkg-deb: {error}", 100)
            local[package.name] = package
            names.append(package.name)
        else:
            names.append(word.split("=")[0])
    return resolve(call, names, {**offered, **local}, have, local)


def resolve(
    call: Call,
    names: list[str],
    choice: dict[str, Package],
    have: dict[str, dict[str, Any]],
    local: dict[str, Package],
) -> int:
    for name in names:
        if name not in choice:
            if name in have:
                continue
            return fail(f"E: Unable to locate package {name}", 100)
    wanted = [name for name in names if name in choice]
    for name, facts in have.items():
        choice.setdefault(name, Package(name, str(facts["version"])))
    try:
        closure = archive.closure(wanted, choice)
    except KeyError as missing:
        needer = next(p.name for p in choice.values() if missing.args[0] in p.needs)
        fail("The following packages have unmet dependencies:")
        fail(f" {needer} : Depends: {missing.args[0]} but it is not installable")
        return fail("E: Unable to correct problems, you have held broken packages.", 100)
    todo = [p for p in closure if not is_installed(have.get(p.name), p.version)]
    remote = [p for p in todo if p.name not in local]
    if remote and not config()["internet"]:
        for package in remote:
            fail(
                f"E: Failed to fetch http://archive.ubuntu.com/ubuntu/pool/{package.file_name}  "
                "Could not connect to archive.ubuntu.com:80, connection timed out"
            )
        return fail(
            "E: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?",
            100,
        )
    if call.download_only:
        folder = Path(call.options.get("Dir::Cache::archives", ARCHIVES))
        if not (folder / "partial").is_dir():
            return fail(f"E: Archives directory {folder}/partial is missing.", 100)
        for package in remote:
            print(f"Get: {package.name} {package.architecture} {package.version}")
            archive.build(package, folder / package.file_name)
        return 0
    return unpack(call.flags, todo, have)


def remove(call: Call) -> int:
    if wait_for_lock(call):
        return 100
    have = installed()
    for word in call.words:
        matches = fnmatch.filter(have, word)
        if not matches and not any(c in word for c in "*?"):
            return fail(f"E: Unable to locate package {word}", 100)
        for name in matches:
            print(f"Removing {name} ({have[name]['version']}) ...")
            withdraw(name)
            del have[name]
    store(have)
    return 0


def apt_cache(argv: list[str]) -> int:
    if len(argv) < 2 or argv[0] not in ("policy", "madison", "show"):
        return fail(f"E: Invalid operation {argv[0] if argv else ''}", 100)
    offered, have = known(Call()), installed()
    for name in argv[1:]:
        package = offered.get(name)
        if argv[0] == "policy" and (package or name in have):
            print(f"{name}:\n  Installed: {have.get(name, {}).get('version', '(none)')}")
            print(f"  Candidate: {package.version if package else '(none)'}")
        elif package is None:
            return fail(f"N: Unable to locate package {name}", 100 if argv[0] == "show" else 0)
        elif argv[0] == "madison":
            print(f" {name} | {package.version} | http://archive.ubuntu.com/ubuntu jammy")
        else:
            print(f"Package: {name}\nVersion: {package.version}\n")
    return 0


def apt_mark(argv: list[str]) -> int:
    have = installed()
    if argv == ["showhold"]:
        print("".join(f"{name}\n" for name in sorted(have) if have[name]["held"]), end="")
        return 0
    if len(argv) < 2 or argv[0] not in ("hold", "unhold"):
        return fail(f"E: Invalid operation {argv[0] if argv else ''}", 100)
    for name in argv[1:]:
        if name not in have:
            return fail(
                f"E: Can't select installed nor candidate version from package '{name}'", 100
            )
        have[name]["held"] = argv[0] == "hold"
        print(f"{name} set on hold." if have[name]["held"] else f"Canceled hold on {name}.")
    store(have)
    return 0
