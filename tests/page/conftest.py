"""The page as a user meets it: the real command, a real browser, a small Google, a vLLM."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from local import checkpoint
from tests.machine import vllm_server
from tests.page import crew
from tests.page.crew import Stage


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not longer than a file: until it ends, Playwright holds this thread's event loop."""
    with crew.browsing() as found:
        yield found


@pytest.fixture(scope="session")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vllm_server.Server]:
    """The stand-in vLLM, with the key that the small Google's secret holds."""
    model = checkpoint.make(tmp_path_factory.mktemp("model"), 16)
    flags = [*vllm_server.KIMI, "--api-key", vllm_server.KEY]
    with vllm_server.serving(model, tmp_path_factory.mktemp("vllm"), flags) as server:
        yield server


@pytest.fixture(scope="module")
def stage(vllm: vllm_server.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One dashboard for all tests of a file that leave the session as it was."""
    with crew.staged(tmp_path_factory.mktemp("stage"), vllm.port) as found:
        yield found


@pytest.fixture
def own_stage(vllm: vllm_server.Server, tmp_path: Path) -> Iterator[Stage]:
    """A dashboard for a test that ends the session, or the dashboard."""
    with crew.staged(tmp_path, vllm.port) as found:
        yield found


@pytest.fixture
def visitor(browser: Browser) -> Iterator[BrowserContext]:
    """A browser of somebody who has never been here."""
    with crew.visiting(browser) as found:
        yield found


@pytest.fixture(scope="module")
def insider(browser: Browser, stage: Stage) -> Iterator[BrowserContext]:
    """The browser that has used the stage's token."""
    with crew.visiting(browser) as found:
        enter(found, stage).close()
        yield found


@pytest.fixture
def page(insider: BrowserContext, stage: Stage) -> Iterator[Page]:
    """A tab on the stage's page."""
    found = insider.new_page()
    found.goto(stage.dashboard.address)
    found.locator("article.card").first.wait_for()
    yield found
    found.close()


@pytest.fixture
def own_page(visitor: BrowserContext, own_stage: Stage) -> Page:
    return enter(visitor, own_stage)


def enter(context: BrowserContext, stage: Stage) -> Page:
    """The page, by the URL that was printed."""
    found = context.new_page()
    found.goto(stage.dashboard.url)
    found.locator("article.card").first.wait_for()
    return found


@pytest.fixture
def look_again() -> Callable[[Page], None]:
    """Makes a page look now instead of in five seconds."""

    def look(page: Page) -> None:
        before = int(page.locator("body").get_attribute("data-looked") or 0)
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        page.wait_for_function("n => Number(document.body.dataset.looked) > n", arg=before)

    return look
