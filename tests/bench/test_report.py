"""The report in a real browser: every picture drawn, nothing fetched, readable by day and night."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from bench.old_way import rows
from bench.report import main, named
from tests.bench.drawn import problems
from tests.bench.results import phase, result
from tests.page import crew

TIMELINE = [
    {"stage": "driver", "start": 11.0, "end": 131.0, "bytes": None, "ok": True},
    {"stage": "weights", "start": 12.0, "end": 92.0, "bytes": 595_000_000_000, "ok": True},
    {"stage": "save", "start": 140.0, "end": None, "bytes": None, "ok": None},
]
SESSION = {
    "session": "dev",
    "profile": "kimi-k2.5",
    "machine": "a3-highgpu-8g",
    "provisioning": "spot",
    "mode": "fast",
    "serve_flags": ["--tensor-parallel-size", "8"],
    "seconds": 1800,
    "usd": 13.0,
    "started_s": 210.0,
    "max_model_len": 32768,
    "idle_s": 1200,
    "timeline": TIMELINE,
    "basis": "",
}
PICTURES = ["latency", "throughput", "cost", "start"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not longer than a file: until it ends, Playwright holds this thread's event loop."""
    with crew.browsing() as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of two loads each, side by side; with PNGs."""
    folder = tmp_path_factory.mktemp("report")
    sessions = (SESSION, SESSION | {"session": "<b>other</b>", "machine": "a2-ultragpu-8g"})
    files = []
    for number, session in enumerate(sessions):
        phases = [phase(concurrent=c, requests=40, seed=c + number) for c in (1, 8)]
        files.append(folder / f"{number}.json")
        files[-1].write_text(json.dumps(result(*phases, session=session)))
    out = folder / "report.html"
    assert main([*map(str, files), "--out", str(out), "--png", str(folder / "png")]) == 0
    return out


def opened(browser: Browser, path: Path, scheme: str = "light") -> tuple[Page, list[str]]:
    """A tab on it, and whatever it complains of or asks for."""
    page = browser.new_page(color_scheme=scheme)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url))
    page.goto(path.as_uri())
    said.remove(path.as_uri())
    return page, said


def test_report_draws_every_picture_and_asks_for_nothing(browser: Browser, report: Path):
    """It is mailed, kept, and opened years later where nothing else is."""
    page, said = opened(browser, report)

    assert page.locator("figure").count() == len(PICTURES)
    assert problems(page) == []
    assert said == []
    page.close()


def test_report_check_sees_it_when_a_picture_is_missing(browser: Browser, tmp_path: Path):
    """The twin: a broken image, and a figure whose drawing is empty."""
    broken = tmp_path / "broken.html"
    broken.write_text(
        '<img src="gone.png"><figure><svg width="300" height="200"></svg>'
        "<figcaption>empty</figcaption></figure><figure><figcaption>none</figcaption></figure>"
    )
    page, _ = opened(browser, broken)

    found = problems(page)
    assert [line.partition(":")[0] for line in found] == ["gone.png is broken", "empty", "none"]
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_is_readable_by_everybody(browser: Browser, report: Path, scheme: str):
    """axe finds no contrast, label or table that assistive technology would stumble over."""
    page, _ = opened(browser, report, scheme)

    found = Axe().run(page).response["violations"]
    assert [(v["id"], [n["html"][:200] for n in v["nodes"]]) for v in found] == []
    ink = page.locator("body").evaluate("b => getComputedStyle(b).color")
    drawn = page.locator("figure text").first.evaluate("t => getComputedStyle(t).fill")
    assert drawn == ink  # words in pictures are the page's own colour
    page.close()


def test_report_says_what_was_paid_and_from_when_it_pays(browser: Browser, report: Path):
    """The two sentences for whoever pays."""
    page, _ = opened(browser, report)
    text = page.locator("main").inner_text()

    assert "$13.00" in text
    assert "pays when" in text or "pays with" in text
    assert "595.00 GB" in text
    assert "<b>other</b>" in text  # shown, not obeyed
    page.close()


def test_report_makes_a_png_of_each_picture(report: Path):
    """For slides and tickets, which show no SVG."""
    found = sorted((report.parent / "png").glob("*.png"))

    assert [path.stem for path in found] == sorted(PICTURES)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in found)


def test_report_says_so_when_it_knows_no_rate_and_no_start(tmp_path: Path):
    """Most endpoints that people benchmark are not ours."""
    file, out = tmp_path / "r.json", tmp_path / "r.html"
    unpriced = phase(requests=10) | {"usd_per_m_output_tokens": None}
    file.write_text(json.dumps(result(unpriced, rate=None)))

    assert main([str(file), "--out", str(out)]) == 0
    text = out.read_text()
    assert "No run knows what its machine costs an hour." in text
    assert "No run has its machine's timeline." in text
    assert text.count("<figure>") == 2


def test_report_is_the_same_when_made_again(tmp_path: Path):
    """A report under version control changes when its data does."""
    file = tmp_path / "r.json"
    file.write_text(json.dumps(result(phase(requests=10), session=SESSION)))
    texts = []
    for name in ("a.html", "b.html"):
        assert main([str(file), "--out", str(tmp_path / name)]) == 0
        texts.append((tmp_path / name).read_text())

    assert texts[0] == texts[1]


def test_report_writes_nothing_when_a_file_is_no_result(tmp_path: Path, capsys):
    """Half a report would be taken for a whole one."""
    (tmp_path / "x.json").write_text("{}")
    out = tmp_path / "r.html"

    assert main([str(tmp_path / "x.json"), "--out", str(out)]) == 1
    assert "x.json: not a benchmark's result" in capsys.readouterr().err
    assert not out.exists()


def test_runs_of_one_name_are_told_apart():
    """Two lines of one label cannot be read."""
    assert [who for who, _ in named([result(phase()), result(phase())])] == [
        "kimi-k2.5, 2026-11-24 10:00 (1)",
        "kimi-k2.5, 2026-11-24 10:00 (2)",
    ]


@pytest.mark.parametrize(
    ("session", "but"),
    [
        (SESSION, ""),
        (SESSION | {"machine": "a2-ultragpu-8g"}, "another machine: a2-ultragpu-8g"),
        (SESSION | {"profile": "qwen"}, "another model: qwen"),
        (SESSION | {"basis": "a stand-in's pace"}, "a stand-in's pace"),
        (None, "what machine served is not known"),
    ],
)
def test_old_way_says_whether_the_figures_compare(session, but):
    """112 tokens/s of eight H100s beside a laptop's figure would mislead."""
    found = {row.figure: row for row in rows(result(phase(concurrent=1), session=session))}

    assert found["tokens/s alone, 128 tokens"].but == but
    assert found["tokens/s alone, 128 tokens"].theirs == "112"
    assert found["tokens/s each, two at once, 64 tokens"].but == "not measured in this run"
