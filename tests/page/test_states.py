"""What the page shows of a machine in each state: its words, its colour, and what can be done."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.page import crew, scene, walk
from tests.page.conftest import enter
from tests.page.sound import assert_sound

SEEN = 60_000
HOLD = {"Keep for", "Keep", "End"}
TALK = {"Message", "Send", "Clear"}
STATES = {
    # Session: what its phase is called, the colour, what can be done, what else it says.
    "new": ("booting", "under-way", HOLD, ["Starting for", "30 min left for it"]),
    "starting": ("weights", "under-way", HOLD | {"How it starts"}, ["21 of 64 shards", "ram"]),
    "serving": ("serving", "good", HOLD | TALK | {"Connect"}, ["Ends by itself", "at the latest"]),
    "kept": ("serving", "good", HOLD | TALK | {"Connect", "Release"}, ["Kept for"]),
    "failed": ("failed", "bad", HOLD | {"How far it came"}, ["wrong sha256 twice", "now"]),
    "preempted": ("stopping", "over", {"End"}, ["has ended", "Compute says STOPPING"]),
    "ended": ("terminated", "over", {"End"}, ["idle for 20 min", "$28."]),
    "seed": ("seeding", "under-way", HOLD, ["312 of 595 GB", "over 30 days old"]),
}


@pytest.fixture(scope="module")
def states(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One page with a machine in each state; nobody's endpoint is asked."""
    expect.set_options(timeout=SEEN)
    folder = tmp_path_factory.mktemp("states")
    with (
        crew.staged(folder, vllm_port=1, set_up=scene.set_up_states) as stage,
        crew.visiting(browser) as visitor,
    ):
        yield enter(visitor, stage)


def offered(page: Page, session: str) -> set[str]:
    """The controls that somebody can see on its card, without its name."""
    card = page.locator(f"article[data-session='{session}']")
    told = card.locator(f":is({walk.CONTROLS}):visible").evaluate_all(
        "all => all.map(e => e.labels?.[0]?.firstChild.textContent || e.textContent)"
    )
    return {re.sub(r"\s+", " ", text).strip() for text in told}


@pytest.mark.parametrize("session", STATES)
def test_card_shows_the_state_and_offers_what_makes_sense_in_it(states: Page, session):
    """A button that cannot work, or a countdown that means nothing, costs trust."""
    phase, colour, controls, words = STATES[session]
    card = states.locator(f"article[data-session='{session}']")

    expect(card.locator(".phase")).to_have_text(phase)
    expect(card).to_have_attribute("data-state", colour)
    for text in words:
        expect(card).to_contain_text(text)
    assert offered(states, session) == controls


def test_only_what_runs_costs_money_by_the_hour(states: Page):
    """Five GPU machines and a seed run; two are over."""
    expect(states.locator("#total")).to_have_text("$156.00 an hour now")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_states_are_told_apart_by_more_than_a_colour_and_can_be_read(states: Page, scheme):
    """AA in both schemes, every state at once (axe-core)."""
    states.emulate_media(color_scheme=scheme)
    assert_sound(states)


@pytest.mark.parametrize("width", [320, 640])
def test_page_needs_no_sideways_scrolling_when_it_is_narrow(states: Page, width):
    """A phone; and a laptop's window at 200 % and at 400 %."""
    states.set_viewport_size({"width": width, "height": 800})
    wide = states.evaluate("document.scrollingElement.scrollWidth")
    states.set_viewport_size({"width": 1100, "height": 900})

    assert wide <= width


def test_walk_names_a_control_that_nobody_drives(states: Page):
    """The twin of the walk over the local cloud: one that sees nothing passes everything."""
    walk.watch(states)
    everything = walk.left_out(states)
    states.locator("summary", has_text="How it starts").click()

    assert set(everything) - set(walk.left_out(states)) == {"summary"}
    assert {"keep", "release", "connect", "disconnect", "down"} <= set(everything)
    assert {"yes", "no", "stop", "clear", "submit", "skip"} <= set(everything)
