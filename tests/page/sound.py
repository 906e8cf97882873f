"""Names, roles, order and contrast of AA, as axe-core sees them."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page


def assert_sound(page: Page) -> None:
    """Nothing that assistive technology stumbles over; else its report."""
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
