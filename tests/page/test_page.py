"""The page in a real Chromium: what it shows, each of its buttons, and that looking is free."""

import json
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from startup.probes import Metrics
from tests.machine import vllm_server
from tests.page import walk
from tests.page.crew import Stage
from tests.page.scene import LEASE
from tests.page.sound import assert_sound
from tests.waiting import wait_until

SEEN = 60_000


@pytest.fixture(autouse=True)
def _patience():
    expect.set_options(timeout=SEEN)


def button(page: Page, name: str):
    return page.get_by_role("button", name=name, exact=True)


def connect(page: Page) -> None:
    """The line, opened by its button whether or not a chat has opened one."""
    either = page.get_by_role("button", name=re.compile("^(Disc|C)onnect dev$"))
    if either.inner_text() == "Disconnect":
        either.click()
    button(page, "Connect dev").click()
    expect(page.locator(".address")).to_contain_text("http://127.0.0.1:")


def say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    button(page, "Send").click()


def test_page_shows_what_runs_what_it_costs_and_when_it_ends(page: Page):
    """The three numbers that keep a user from opening Google's console."""
    card = page.get_by_role("article", name="dev")

    expect(card.locator(".phase")).to_have_text("serving")
    expect(card).to_contain_text("$26.00/h, as of 2 Nov 2026")
    expect(card.locator(".cost")).to_contain_text("$13.")
    expect(card.locator(".ends")).to_have_text(re.compile(r"1\d min \d\d s"))
    expect(card).to_contain_text("mode long, 262,144 tokens")
    expect(page.locator("#total")).to_have_text("$26.00 an hour now")


def test_page_shows_the_ledger(page: Page):
    """Where the money went, without a table to ask for."""
    expect(page.locator("#spent")).to_have_text("$143.00 for 3 machines")
    expect(page.get_by_role("row")).to_have_count(4)
    expect(page.get_by_role("row").nth(1)).to_contain_text("google: preempted")


def test_keep_and_release_hold_the_session_and_give_it_back(page: Page, stage: Stage):
    """The buttons press the commands: the lease is the one that the watchdog reads."""
    page.get_by_label("Keep for").select_option("2h")
    button(page, "Keep dev").click()

    expect(page.locator(".end-name")).to_have_text("Kept for")
    assert json.loads(stage.google.objects[LEASE])["vm_id"] == "1000"

    button(page, "Release dev").click()
    expect(page.locator(".end-name")).to_have_text("Ends by itself")
    assert LEASE not in stage.google.objects


def test_keep_says_no_in_mayflys_words_beyond_the_deadline(page: Page, stage: Stage):
    """Google deletes the VM then, whatever a page promises."""
    page.get_by_label("Keep for").select_option("4h")
    button(page, "Keep dev").click()

    expect(page.get_by_role("alert")).to_contain_text("dev cannot be kept for 4 h 0 min")
    assert LEASE not in stage.google.objects


def test_end_asks_first_and_does_nothing_when_the_answer_is_no(page: Page, stage: Stage):
    """One wrong click must not cost an hour of loading."""
    button(page, "End dev").click()
    dialog = page.get_by_role("dialog", name="End dev now?")
    expect(dialog).to_contain_text("It has cost $13.")

    button(page, "Leave it").click()
    expect(dialog).to_be_hidden()
    button(page, "End dev").click()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert stage.pulumi_calls() == ""


def test_end_destroys_the_session_and_says_so(own_page: Page, own_stage: Stage):
    """The same `mayfly down` as in a terminal, its words on the page."""
    button(own_page, "End dev").click()
    button(own_page, "End it now").click()

    expect(own_page.locator(".going")).to_contain_text("dev is gone (ran 3")
    assert "destroy --yes --refresh --skip-preview --stack dev" in own_stage.pulumi_calls()
    own_stage.google.instances.clear()
    expect(own_page.locator("#empty")).to_be_visible()
    expect(own_page.locator("#empty")).to_contain_text("Nothing runs. No machine costs money.")


def test_chat_streams_an_answer_with_its_reasoning_folded(page: Page):
    """The quickest way to see that the endpoint is worth its price."""
    say(page, 'Hello there. What is "Hello there"?')

    answer = page.locator(".theirs")
    expect(answer.locator("p.quiet")).to_contain_text("a second")
    assert answer.locator("> .text").inner_text()
    thoughts = answer.locator("details")
    assert thoughts.get_attribute("open") is None
    expect(thoughts.locator(".text")).to_be_hidden()
    thoughts.locator("summary").click()
    expect(thoughts.locator(".text")).to_be_visible()
    expect(page.locator(".talk")).to_have_attribute("aria-busy", "false")


def test_stop_ends_the_answer_at_the_endpoint_too(page: Page, vllm: vllm_server.Server):
    """Tokens that nobody will read are paid for, and hold the session awake."""
    say(page, walk.LONG)
    wait_until(lambda: vllm.metric("vllm:num_requests_running") > 0, 30)

    button(page, "Stop").click()

    expect(page.locator(".theirs")).to_contain_text("Stopped.")
    wait_until(lambda: vllm.metric("vllm:num_requests_running") == 0, 30)
    expect(page.get_by_label("Message")).to_be_focused()

    button(page, "Clear").click()
    expect(page.locator(".talk > div")).to_have_count(0)


def test_connect_says_the_address_and_disconnect_closes_it(page: Page):
    """Other programs on this machine want the endpoint as well."""
    connect(page)
    button(page, "Disconnect dev").click()
    expect(page.locator(".address")).to_be_hidden()
    expect(button(page, "Connect dev")).to_be_focused()


def test_page_left_open_is_no_activity_and_a_chat_is(
    page: Page, vllm: vllm_server.Server, look_again
):
    """A forgotten tab must not pay for a night; the watchdog's own probe judges."""
    connect(page)
    watchdog = Metrics(vllm.port, {})
    watchdog(0)
    for _ in range(3):
        look_again(page)

    assert watchdog(15) == ""

    say(page, "Hello")
    expect(page.locator(".theirs p.quiet")).to_contain_text("a second")
    assert watchdog(15) == "a request was served"


def test_page_works_from_the_keyboard_alone(page: Page, stage: Stage):
    """Tab to it, see where you are, press it."""
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the sessions")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(12):
        page.keyboard.press("Tab")
        if button(page, "Keep dev").evaluate("e => e === document.activeElement"):
            break
    expect(button(page, "Keep dev")).to_be_focused()
    outline = "e => getComputedStyle(e).outlineStyle + getComputedStyle(e).outlineWidth"
    assert button(page, "Keep dev").evaluate(outline) == "solid3px"

    page.keyboard.press("Enter")
    expect(page.locator(".end-name")).to_have_text("Kept for")
    expect(button(page, "Keep dev")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".end-name")).to_have_text("Ends by itself")
    expect(button(page, "Keep dev")).to_be_focused()
    page.get_by_label("Message").focus()
    page.keyboard.type("Hello")
    page.keyboard.press("Enter")
    expect(page.locator(".theirs p.quiet")).to_contain_text("a second")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_has_nothing_that_assistive_technology_stumbles_over(page: Page, scheme):
    """Names, roles, order, and contrast of AA, in both schemes (axe-core)."""
    page.emulate_media(color_scheme=scheme)
    page.locator("summary", has_text="How it started").click()
    say(page, "Hello")
    expect(page.locator(".theirs p.quiet")).to_contain_text("a second")
    button(page, "End dev").click()
    assert_sound(page)
    page.keyboard.press("Escape")
    assert_sound(page)


def test_axe_turns_red_when_a_label_is_missing_and_a_text_is_pale(page: Page):
    """The twin: a check that sees nothing passes everything."""
    page.evaluate(
        "document.querySelector('textarea').parentElement.replaceWith("
        "document.querySelector('textarea'))"
    )
    page.evaluate("document.querySelector('h3').style.color = '#ddd'")

    found = {violation["id"] for violation in Axe().run(page).response["violations"]}

    assert {"label", "color-contrast"} <= found


def test_page_shows_the_trouble_when_the_command_has_ended(
    own_page: Page, own_stage: Stage, look_again
):
    """A page that goes on counting would be believed."""
    own_stage.dashboard.end()
    look_again(own_page)

    expect(own_page.locator("#trouble")).to_contain_text("Start it again: mayfly dashboard")
