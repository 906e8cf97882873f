"""Whether a page's pictures are drawn, by what the browser has laid out."""

from playwright.sync_api import Page

LEAST_PX, LEAST_SHAPES = 100, 20


def problems(page: Page) -> list[str]:
    """Pictures that are not there: broken, without a size, or empty."""
    whole = "i => i.complete && i.naturalWidth > 0"
    images = [i for i in page.locator("img").all() if not i.evaluate(whole)]
    found = [f"{image.get_attribute('src')} is broken" for image in images]
    for figure in page.locator("figure").all():
        svg, caption = figure.locator("svg"), figure.locator("figcaption").inner_text()
        box = svg.bounding_box() if svg.count() else None
        shapes = svg.locator("path, text").count() if svg.count() else 0
        if not box or min(box["width"], box["height"]) < LEAST_PX or shapes < LEAST_SHAPES:
            found.append(f"{caption}: {box}, {shapes} shapes")
    return found
