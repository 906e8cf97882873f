"""The processes behind the page's tests: the real command, and a browser that reaches nothing."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, sync_playwright

from local.children import free_port
from tests.desk.google import Google
from tests.desk.google import serving as google_serving
from tests.desk.pulumi_stub import SCRIPT as PULUMI
from tests.page import scene
from tests.waiting import wait_until
from tools import chromium

START_S = 60
PATIENCE_MS = 60_000
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    # Whatever is not this machine has no address.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)


@dataclass
class Dashboard:
    """A running `mayfly dashboard`. url: as printed, with the token."""

    url: str
    process: subprocess.Popen[str]

    @property
    def address(self) -> str:
        return self.url.partition("/#")[0]

    @property
    def token(self) -> str:
        return self.url.partition("token=")[2]

    def end(self) -> int:
        """Ctrl-C; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(START_S)


@contextmanager
def browsing() -> Iterator[Browser]:
    """A headless Chromium with an empty profile."""
    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=chromium.find(), args=QUIET)
        yield found
        found.close()


@contextmanager
def visiting(browser: Browser) -> Iterator[BrowserContext]:
    """An empty profile. Whatever a page of it complains of, a breach of its policy too, fails."""
    found = browser.new_context(viewport={"width": 1100, "height": 900}, reduced_motion="reduce")
    found.set_default_timeout(PATIENCE_MS)
    trouble: list[str] = []
    found.on("weberror", lambda error: trouble.append(str(error.error)))
    found.on("console", lambda said: trouble.append(said.text) if said.type == "error" else None)
    yield found
    found.close()
    assert [text for text in trouble if not text.startswith("Failed to load resource")] == []


@dataclass
class Stage:
    """A small Google, the folder that the command runs in, and the command."""

    google: Google
    folder: Path
    dashboard: Dashboard

    def pulumi_calls(self) -> str:
        log = self.folder / "log"
        return log.read_text() if log.exists() else ""


@contextmanager
def staged(
    folder: Path, vllm_port: int, set_up: Callable[[Google], None] = scene.set_up
) -> Iterator[Stage]:
    """The scene with `mayfly dashboard` before it; its tunnels lead to a vLLM on this port."""
    google = Google()
    set_up(google)
    (folder / "Pulumi.yaml").write_text("name: mayfly\nruntime: python\n")
    # A port of its own: tests beside this one connect too, and all begin at the usual one.
    port = free_port()
    (folder / "Pulumi.dev.yaml").write_text(f"config:\n  mayfly:localPort: {port}\n")
    (folder / "kept.json").write_text('{"stacks": {"dev": ["1000"]}, "outputs": {}}')
    programs = folder / "bin"
    programs.mkdir()
    for name, script in (
        ("gcloud", scene.GCLOUD.format(python=sys.executable, port=vllm_port)),
        ("pulumi", PULUMI.format(python=sys.executable)),
    ):
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    with google_serving(google) as environment:
        path = f"{programs}:{os.environ['PATH']}"
        more = {**environment, "PATH": path, "STUB_HOME": str(folder), "HOME": str(folder)}
        with serving(folder, more) as dashboard:
            yield Stage(google, folder, dashboard)


@contextmanager
def serving(folder: Path, environment: Mapping[str, str]) -> Iterator[Dashboard]:
    """`mayfly dashboard` on a port of its own; it must end well when it is interrupted."""
    port = str(free_port())
    words = [sys.executable, "-m", "mayfly.cli", "dashboard", "--port", port]
    out, err = folder / "out", folder / "err"
    with out.open("w") as stdout, err.open("w") as stderr:
        process = subprocess.Popen(
            words,
            cwd=folder,
            env={**os.environ, **environment},
            stdout=stdout,
            stderr=stderr,
            text=True,
        )

    def printed() -> str:
        assert process.poll() is None, err.read_text()
        return out.read_text().strip()

    try:
        url = wait_until(printed, START_S)
        assert re.fullmatch(rf"http://127\.0\.0\.1:{port}/#token=[\w-]{{43}}", url), url
        found = Dashboard(url, process)
        yield found
        assert found.end() == 0, err.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
