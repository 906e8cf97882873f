"""Every control of the page, driven once, each held to its effect."""

import re

from playwright.sync_api import Locator, Page, expect

LONG = f'{"la " * 8000}that is all. What of "that is all"?'
"""The stand-in gives the sentence back: some 20 seconds of tokens."""
CONTROLS = "a[href], button, select, textarea, summary"
# What a control is called here: by its part of the page, whichever session's card it is on.
WATCH = """controls => {
  const name = each =>
    Object.values(each.dataset)[0] || each.type || each.className || each.localName;
  const named = root => [...root.querySelectorAll(controls)].map(name);
  window.driven = new Set();
  for (const kind of ["click", "change", "input"]) {
    document.addEventListener(kind, event => {
      const each = event.target.closest(controls);
      if (each) window.driven.add(name(each));
    }, true);
  }
  window.leftOut = () => {
    const there = [...named(document), ...named(document.getElementById("session").content)];
    return [...new Set(there)].filter(each => !window.driven.has(each)).sort();
  };
}"""


def left_out(page: Page) -> list[str]:
    """The controls that nobody has driven since `watch`, on the page or in a card to come."""
    found: list[str] = page.evaluate("window.leftOut()")
    return found


def watch(page: Page) -> None:
    """See from now on which controls are driven."""
    page.evaluate(WATCH, CONTROLS)


def walk(page: Page, session: str) -> None:
    """Drive all of them on a page with one session that serves; it is gone afterwards.

    AssertionError names the controls that the walk leaves out.
    """
    card = page.get_by_role("article", name=session)
    expect(card).to_be_visible()  # the page that takes the token makes way for this one first
    watch(page)
    skip = page.get_by_role("link", name="Skip to the sessions")
    skip.focus()
    page.keyboard.press("Enter")
    hold(page, card, session)
    reach(page, card, session)
    card.locator("summary", has_text="How it started").click()
    expect(card.locator(".stages")).to_contain_text("weights")
    talk(page, card)
    end(page, card, session)
    assert left_out(page) == []


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def hold(page: Page, card: Locator, session: str) -> None:
    """Keep and release, from whichever of the two it is in."""
    expect(card.locator(".end-name")).to_have_text(re.compile("Kept for|Ends by itself"))
    card.get_by_label("Keep for").select_option("2h")
    press(page, f"Keep {session}")
    expect(card.locator(".end-name")).to_have_text("Kept for")
    press(page, f"Release {session}")
    expect(card.locator(".end-name")).to_have_text("Ends by itself")


def reach(page: Page, card: Locator, session: str) -> None:
    """A line to the endpoint for other programs, and its end."""
    press(page, f"Connect {session}")
    expect(card.locator(".address")).to_contain_text("http://127.0.0.1:")
    press(page, f"Disconnect {session}")
    expect(card.locator(".address")).to_be_hidden()


def talk(page: Page, card: Locator) -> None:
    """An answer with its reasoning, one that is stopped, and none any more."""
    box = card.get_by_label("Message")
    box.fill('Hello there. What is "Hello there"?')
    press(page, "Send")
    expect(card.locator(".theirs p.quiet")).to_contain_text("a second")
    card.locator("summary", has_text="Reasoning").click()
    expect(card.locator(".thoughts .text")).to_be_visible()
    box.fill(LONG)
    press(page, "Send")
    press(page, "Stop")
    expect(card.locator(".theirs").nth(1)).to_contain_text("Stopped.")
    press(page, "Clear")
    expect(card.locator(".talk > div")).to_have_count(0)


def end(page: Page, card: Locator, session: str) -> None:
    """Not at once: it asks, and takes no for an answer."""
    press(page, f"End {session}")
    press(page, "Leave it")
    expect(card.locator(".going")).to_be_hidden()
    press(page, f"End {session}")
    press(page, "End it now")
    expect(card).to_have_count(0)
