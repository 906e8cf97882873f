"""uv: environments that are real, from an index that has stand-ins for what is too large."""

import os
import re
import shutil
import sys
from pathlib import Path

from stub import config, fail

VENV_FLAGS = ("--quiet", "-q", "--clear", "--managed-python", "--seed")
PIP_FLAGS = ("--quiet", "-q", "--compile-bytecode", "--require-hashes", "--no-deps", "--strict")
WHEELS = Path("/.machine/lib/wheels")
VERSIONS = {"vllm": "0.24.0"}
REQUIREMENT = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?\s*==\s*([^\s;\\]+)(.*)", re.DOTALL)
HASH_MODE = "error: In `--require-hashes` mode, all requirements"
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")


def main(name: str, argv: list[str]) -> int:
    if argv == ["--version"]:
        print("uv 0.13.9")
        return 0
    if argv[:1] == ["venv"]:
        return venv(argv[1:])
    if argv[:2] == ["pip", "install"]:
        return pip_install(argv[2:])
    if argv[:2] == ["python", "install"]:
        return python_install(argv[2:])
    return fail(f"error: unrecognized subcommand '{' '.join(argv[:2])}'", 2)


def unexpected(word: str) -> int:
    return fail(
        f"error: unexpected argument '{word}' found\n\nFor more information, try '--help'.", 2
    )


def offline(what: str) -> int:
    """A machine without an external IP has no index."""
    return fail(
        f"error: Failed to fetch: `{what}`\n  Caused by: Request failed after 3 retries\n"
        "  Caused by: error sending request for url\n  Caused by: operation timed out",
        2,
    )


def interpreter() -> Path:
    return Path(os.path.realpath(sys.executable))


def managed(version: str) -> Path:
    """An interpreter in UV_PYTHON_INSTALL_DIR, as if downloaded."""
    base = Path(os.environ.get("UV_PYTHON_INSTALL_DIR", "/root/.local/share/uv/python"))
    program = base / f"cpython-{version}-linux-x86_64-gnu/bin/python{version}"
    program.parent.mkdir(parents=True, exist_ok=True)
    if not program.is_symlink():
        program.symlink_to(interpreter())
    return program


def python_install(argv: list[str]) -> int:
    for word in argv:
        if not re.fullmatch(r"3\.\d+", word):
            return unexpected(word)
        if not config()["internet"]:
            return offline("https://github.com/astral-sh/python-build-standalone/releases")
        managed(word)
    return 0


def venv(argv: list[str]) -> int:
    flags, version, words = set(), "", []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        key, equals, value = word.partition("=")
        if key in ("--python", "-p") and (equals or rest):
            version = value if equals else rest.pop(0)
        elif word in VENV_FLAGS:
            flags.add(word)
        elif word.startswith("-"):
            return unexpected(word)
        else:
            words.append(word)
    target = Path(words[0] if words else ".venv")
    if target.exists() and any(target.iterdir()):
        if "--clear" not in flags:
            return fail(
                "error: Failed to create virtual environment\n"
                f"  Caused by: The directory `{target}` exists",
                2,
            )
        shutil.rmtree(target)
    program = interpreter()
    if "--managed-python" in flags:
        if not config()["internet"]:
            return offline("https://github.com/astral-sh/python-build-standalone/releases")
        program = managed(version or "3.12")
    make_environment(target, program)
    return 0


def make_environment(target: Path, program: Path) -> None:
    """A directory that Python takes for a virtual environment."""
    packages(target).mkdir(parents=True)
    (target / "bin").mkdir()
    (target / "bin/python").symlink_to(program)
    for name in ("python3", f"python3.{sys.version_info.minor}"):
        (target / "bin" / name).symlink_to("python")
    home = interpreter().parent
    (target / "pyvenv.cfg").write_text(
        f"home = {home}\nuv = 0.13.9\ninclude-system-site-packages = false\n"
    )
    (target / "bin/activate").write_text(f'export VIRTUAL_ENV={target} PATH="{target}/bin:$PATH"\n')


def packages(target: Path) -> Path:
    return target / f"lib/python3.{sys.version_info.minor}/site-packages"


def pip_install(argv: list[str]) -> int:
    flags, python, locks = set(), "", []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        key, equals, value = word.partition("=")
        if key in ("--python", "-p") and (equals or rest):
            python = value if equals else rest.pop(0)
        elif key in ("-r", "--requirement", "--requirements") and (equals or rest):
            locks.append(value if equals else rest.pop(0))
        elif word in PIP_FLAGS:
            flags.add(word)
        else:
            return unexpected(word)
    if "--require-hashes" not in flags or not locks:
        return fail(
            "error: this machine only installs from a lock, with --require-hashes and -r", 2
        )
    environment = Path(python).parent.parent
    if not (environment / "pyvenv.cfg").exists():
        return fail(
            "error: No virtual environment or system Python installation found for path "
            f"`{python}`",
            2,
        )
    if not config()["internet"]:
        return offline("the package index")
    wanted: dict[str, str] = {}
    for lock in locks:
        if not Path(lock).is_file():
            return fail(f"error: File not found: `{lock}`", 2)
        problem = read_lock(Path(lock).read_text(), wanted)
        if problem:
            return fail(problem, 1)
    return install(environment, wanted)


def read_lock(text: str, wanted: dict[str, str]) -> str:
    """Fill `wanted` with name -> version; returns what is wrong with the lock, or ""."""
    joined = re.sub(r"\\\n", " ", text)
    for raw in joined.splitlines():
        line = raw.split(" #")[0].strip()
        if not line or line.startswith("#"):
            continue
        match = REQUIREMENT.match(line)
        if match is None:
            return f"{HASH_MODE} must have their versions pinned with `==`, but found: {line}"
        if not HASH.search(match[3]):
            what = f"{match[1]}=={match[2]}"
            return f"{HASH_MODE} must have a hash, but none were provided for: {what}"
        wanted[match[1].lower().replace("_", "-")] = match[2]
    return ""


def install(environment: Path, wanted: dict[str, str]) -> int:
    """Every name gets its metadata; what runs here gets its code."""
    folder = packages(environment)
    for name, version in wanted.items():
        if VERSIONS.get(name, version) != version:
            return fail(
                f"  x No solution found when resolving dependencies:\n  ╰─▶ Because there is no "
                f"version of {name}=={version} and you require {name}=={version}, we can conclude "
                "that your requirements are unsatisfiable."
            )
        metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir(exist_ok=True)
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        (metadata / "RECORD").write_text("")
    if "vllm" in wanted:
        install_vllm(environment)
    if wanted.keys() & {"vllm", "huggingface-hub"}:
        # The rest (web server, hub client) is what the project's own environment has of it.
        (folder / "_index.pth").write_text(config()["site_packages"] + "\n")
    return 0


def install_vllm(environment: Path) -> None:
    for name in ("vllm", "torch"):
        shutil.copytree(WHEELS / name, packages(environment) / name, dirs_exist_ok=True)
    program = environment / "bin/vllm"
    program.write_text(
        f"#!{environment}/bin/python\nimport sys\n\nfrom vllm.entrypoints.cli.main import main\n\n"
        "sys.exit(main())\n"
    )
    program.chmod(0o755)
