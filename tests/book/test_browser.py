"""The built book in headless Chromium without a network: it loads, is drawn, and moves.

Every page is opened from its file, as a reader of a saved copy does. QAPRUNE_BOOK names the folder
of an HTML book that is looked at instead of a small one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from study import build
from tests.book.small import FIGURE, ROOT, SHOWN, WIDGETS, checkout, notebook

for module in ("papermill", "ipywidgets", "autoapi"):
    pytest.importorskip(module, reason=f"{module} is not installed: .[run,book]")
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: .[test]")
from selenium.webdriver.common.keys import Keys  # noqa: E402

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
NO_BROWSER = "no chromium and chromedriver: apt-get install chromium chromium-driver"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason=NO_BROWSER),
    pytest.mark.xdist_group("browser"),
]

HARMLESS = (
    "processLuminoMessage",  # ipywidgets announces a method that it has renamed
)
"""What console messages may say."""

SERIOUS = ("SEVERE", "WARNING")
LOCAL = ("file:", "data:", "blob:", "about:", "chrome:", "chrome-untrusted:", "devtools:")


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if given := os.environ.get("QAPRUNE_BOOK"):
        return Path(given).resolve()
    pages = {
        "figure1": notebook("# Figure", FIGURE, SHOWN),
        "hard_concrete": notebook("# Widgets", WIDGETS),
    }
    root = checkout(tmp_path_factory.mktemp("book"), pages)
    return build.build(root, root / "results", root).parent


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-dev-shm-usage",
        "--window-size=1300,1000",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_page_load_timeout(60)
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


DRAWN = """
const done = arguments[arguments.length - 1];
const wait = async (ready) => {
  for (let i = 0; i < 300 && !ready(); i++) await new Promise((next) => setTimeout(next, 100));
};
(async () => {
  await wait(() => document.readyState === "complete");
  const formulas = document.querySelectorAll(".math").length;
  if (formulas) {
    await wait(() => window.MathJax && MathJax.startup && MathJax.startup.promise);
    await MathJax.startup.promise;
  }
  const views = document.querySelectorAll(
    'script[type="application/vnd.jupyter.widget-view+json"]').length;
  if (views) await wait(() => document.documentElement.dataset.widgets);
  const images = [...document.querySelectorAll("article img, main img")];
  done({
    formulas,
    typeset: document.querySelectorAll(".math mjx-container").length,
    errors: document.querySelectorAll("mjx-merror").length,
    fonts: [...document.fonts].filter((font) => font.status === "error").map((f) => f.family),
    views,
    drawn: document.querySelectorAll(".widget-subarea .jupyter-widgets").length,
    broken: images.filter((image) => image.complete && !image.naturalWidth).map((i) => i.src),
    silent: images.filter((image) => !image.alt).map((i) => i.src.slice(0, 80)),
    wide: document.documentElement.scrollWidth > document.documentElement.clientWidth + 1,
  });
})();
"""


def opened(browser: Any, page: Path) -> tuple[dict[str, Any], list[str]]:
    """What a page shows when it has been drawn, and what went wrong meanwhile."""
    for log in ("performance", "browser"):
        browser.get_log(log)
    browser.get(page.as_uri())
    shown = browser.execute_async_script(DRAWN)
    problems = []
    asked = {}  # by the page; the browser's own requests of before may fail at any time
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        event = message["params"]
        if message["method"] == "Network.requestWillBeSent":
            address = asked[event["requestId"]] = event["request"]["url"]
            if not address.startswith(LOCAL):
                problems.append(f"asks another host: {address}")
        failed = message["method"] == "Network.loadingFailed" and not event.get("canceled")
        if failed and event["requestId"] in asked:
            problems.append(f"fails to load: {event['errorText']}: {asked[event['requestId']]}")
    said = [entry for entry in browser.get_log("browser") if entry["level"] in SERIOUS]
    problems += [
        f"console: {entry['message']}"
        for entry in said
        if not any(harmless in entry["message"] for harmless in HARMLESS)
    ]
    return shown, problems


def pages_of(book: Path) -> list[Path]:
    return sorted(path for path in book.rglob("*.html") if "_static" not in path.parts)


def test_every_page_is_drawn(book: Path, browser: Any) -> None:
    problems = []
    totals = {"typeset": 0, "drawn": 0}
    for page in pages_of(book):
        shown, found = opened(browser, page)
        if shown["typeset"] < shown["formulas"] or shown["errors"]:
            found.append(f"mathematics: {shown}")
        if shown["views"] and not shown["drawn"]:
            found.append("no widget is drawn")
        found += [f"font {family} does not load" for family in shown["fonts"]]
        found += [f"image {source} is not drawn" for source in shown["broken"]]
        found += [f"image {source} has no text for who cannot see it" for source in shown["silent"]]
        found += ["is wider than the window"] if shown["wide"] else []
        problems += [f"{page.relative_to(book)}: {problem}" for problem in found]
        totals = {name: count + shown[name] for name, count in totals.items()}
    assert not problems, "\n".join(problems)
    assert totals["typeset"] > 20
    assert totals["drawn"] > 0


def test_what_a_page_asks_for_in_vain_is_noticed(browser: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text('<img src="https://example.org/a.png" alt="a"><script src="none.js"></script>')
    problems = opened(browser, page)[1]
    assert "asks another host: https://example.org/a.png" in problems
    failed = [problem.split(": ")[-1] for problem in problems if problem.startswith("fails")]
    assert sorted(failed) == [(tmp_path / "none.js").as_uri(), "https://example.org/a.png"]


def test_widgets_move(book: Path, browser: Any) -> None:
    """A key moves a slider, and another page of the stack that it is linked to comes into view."""
    opened(browser, book / "book/_generated/hard_concrete.html")
    css = "css selector"
    handle = browser.find_element(css, ".widget-subarea .noUi-handle")
    visible = """
        const panes = document.querySelectorAll(".widget-subarea .widget-html-content");
        return [...panes].filter((pane) => pane.offsetParent).map((pane) => pane.innerHTML);
    """
    readout = browser.find_element(css, ".widget-subarea .widget-readout")
    before = readout.text, browser.execute_script(visible)
    handle.send_keys(Keys.ARROW_RIGHT)
    after = readout.text, browser.execute_script(visible)
    assert before[0] != after[0]
    assert before[1] != after[1]
    tabs = browser.find_elements(css, ".widget-tab .lm-TabBar-tab")
    if tabs:
        tabs[1].click()
        assert "lm-mod-current" in tabs[1].get_attribute("class")


def test_edit_links_lead_to_what_pages_are_made_of(book: Path) -> None:
    begin, there = "https://github.com/qaprune/qaprune/edit/main/", set()
    for page in pages_of(book):
        links = _Links(page.read_text(encoding="utf-8")).links
        there |= {link.removeprefix(begin) for link in links if link.startswith(begin)}
    assert {"book/library.md", "notebooks/report/figure1.ipynb"} <= there
    assert [name for name in there if not (ROOT / name).is_file()] == []


class _Links(HTMLParser):
    """Targets of a page's links, and the ids that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids.update(value for name in ("id", "name") if (value := values.get(name)))
        if tag == "a" and values.get("href"):
            self.links.append(str(values["href"]))


def test_no_broken_internal_link(book: Path) -> None:
    pages = {page: _Links(page.read_text(encoding="utf-8")) for page in pages_of(book)}
    broken = []
    for page, parsed in pages.items():
        for link in parsed.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            fragment = unquote(parts.fragment)
            if not target.is_file() or (
                fragment and target in pages and fragment not in pages[target].ids
            ):
                broken.append(f"{page.relative_to(book)}: {link}")
    assert not broken, "\n".join(broken)
