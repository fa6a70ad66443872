"""The site builds without a warning, loads nothing from outside, and its Markdown came out as it was meant."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = re.compile(r"^(https?:)?//")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


class Loads(HTMLParser):
    """What a page loads by itself (links to click are none of it), and the text of its paragraphs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.paragraphs: list[str] = []
        self._inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag != "a" and (tag != "link" or given.get("rel") != "canonical"):
            self.found += [value for name in ("src", "href", "srcset", "data") if (value := given.get(name))]
        if tag in ("p", "pre"):
            self._inside.append(tag)
            self.paragraphs += [""] * (tag == "p")

    def handle_endtag(self, tag: str) -> None:
        if self._inside and tag == self._inside[-1]:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if self._inside and self._inside[-1] == "p":
            self.paragraphs[-1] += data


def pages(site: Path) -> Iterator[tuple[str, Loads]]:
    for path in sorted(site.rglob("*.html")):
        yield path.relative_to(site).as_posix(), Loads(path.read_text(encoding="utf-8"))


def test_every_page_is_there(site: Path) -> None:
    sources = {path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert {name for name, _ in pages(site)} == sources | {"404.html"}


def test_no_page_loads_from_outside(site: Path) -> None:
    loaded = {name: page.found for name, page in pages(site)}
    assert all(loaded.values())
    assert [(name, url) for name, found in loaded.items() for url in found if OUTSIDE.match(url)] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert [url for url in re.findall(r"(?:url\(|@import\s*)[\"']?([^\"')]+)", styles) if OUTSIDE.match(url)] == []


def test_lists_and_tables_did_not_become_paragraphs(site: Path) -> None:
    wrong = {name: [text for text in page.paragraphs if re.search(r"^(\||- |\d+\. |```|#)", text, re.M)] for name, page in pages(site)}
    assert {name: found for name, found in wrong.items() if found} == {}


def test_a_browser_asks_for_nothing_but_the_site(site: Path) -> None:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program, "no Chromium here: install it, on Debian with 'apt-get install chromium'"
    asked: list[str] = []
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        for name in ("index.html", "tutorial.html", "configuration.html", "how-to/new-tool.html"):
            page.goto((site / name).as_uri())
            page.wait_for_load_state("networkidle")
            assert page.locator("article h1").count() == 1
        browser.close()
    assert asked
    assert [url for url in asked if not url.startswith(("file://", "data:", "blob:"))] == []
    assert errors == []
