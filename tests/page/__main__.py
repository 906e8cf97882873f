"""`python -m tests.page FILE.png [dark]`: the README's picture, of the tests' own scene."""

import json
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page

from local import checkpoint
from tests.conftest import clean_environment
from tests.desk.google import Google
from tests.machine import vllm_server
from tests.page import crew

WAIT_MS = 60_000
SPEEDS = (96.0, 118.5, 121.0, 64.5, 119.0, 118.5)
QUESTION = 'A mayfly lives for a day and leaves no bill behind. What did I say of "a day"?'


def main(words: list[str]) -> int:
    """0: the picture is made."""
    if not words or words[1:] not in ([], ["dark"]):
        print("usage: python -m tests.page FILE.png [dark]", file=sys.stderr)
        return 2
    clean_environment()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        flags = [*vllm_server.KIMI, "--api-key", vllm_server.KEY]
        model = checkpoint.make(folder / "model", 16)
        with (
            vllm_server.serving(model, folder, flags) as vllm,
            crew.staged(folder, vllm.port) as stage,
            crew.browsing() as browser,
        ):
            page = browser.new_page(
                viewport={"width": 1040, "height": 700},
                color_scheme="dark" if words[1:] else "light",
            )
            page.set_default_timeout(WAIT_MS)
            page.goto(stage.dashboard.url)
            act(page, stage.google)
            page.screenshot(path=words[0], full_page=True)
    return 0


def act(page: Page, google: Google) -> None:
    """Something to see: how it started, half a minute of speeds, an answer."""
    page.locator("summary", has_text="How it started").click()
    for tok_s in SPEEDS:
        google.say("dev", load=json.dumps({"tok_s": tok_s, "running": 2, "waiting": 0}))
        seen = page.evaluate("Number(document.body.dataset.looked)")
        page.wait_for_function("n => Number(document.body.dataset.looked) > n", arg=seen)
    page.get_by_label("Message").fill(QUESTION)
    page.get_by_role("button", name="Send").click()
    page.locator(".theirs p.quiet").wait_for()
    page.get_by_role("heading", name="mayfly").click()


sys.exit(main(sys.argv[1:]))
