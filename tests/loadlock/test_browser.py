"""The console in a real browser: open, filter, zoom, from a point to its bytes, by keyboard too, in light and dark."""

from __future__ import annotations

import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from playwright.sync_api import Page, sync_playwright

import loadlock
from loadlock.console.app import application
from loadlock.report import write

ROWS = 20_000
SPIKE = 12_345


@contextmanager
def served(lake: Path) -> Iterator[str]:
    """Serve the console of a lake; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(application(lake), port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def lake_path(tmp_path_factory: pytest.TempPathFactory, polisher: Any) -> Path:
    """A lake of four wafers, of which one is long and has a spike in one sample."""
    site = polisher(tmp_path_factory.mktemp("browser"))
    long = [f"P1,A,{5000 + i},W7,long,{99.0 if i == SPIKE else 1 + i % 7 / 7},1" for i in range(ROWS)]
    site.file("1.csv", [*site.rows(range(4)), *long, "P1,A,soon,W9,ramp,1,1"])
    with loadlock.open(site.folder / "fab.lake") as lake:
        lake.ingest(site.drop, config=site.config)
    return Path(site.folder) / "fab.lake"


@pytest.fixture(scope="module")
def address(lake_path: Path) -> Iterator[str]:
    with served(lake_path) as address:
        yield address


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program, "no Chromium here: install it, on Debian with 'apt-get install chromium'"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        yield page
        browser.close()


@pytest.fixture
def errors(page: Page) -> Iterator[list[str]]:
    """What the page complains of, a breach of its own security policy included; there must be nothing."""
    found: list[str] = []
    page.on("console", lambda message: found.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("request", lambda request: found.append(request.url) if "127.0.0.1" not in request.url and "data:" not in request.url else None)
    yield found
    assert found == []


def test_open_filter_zoom_and_drill_to_the_bytes(page: Page, address: str, errors: list[str]) -> None:
    page.goto(address)
    page.get_by_role("link", name="P1").click()
    page.wait_for_selector(".plot[data-ready]")
    page.get_by_role("link", name="W7").click()
    page.get_by_label("sensor", exact=True).select_option("PRESSURE")
    page.get_by_label("step", exact=True).select_option("long")
    page.get_by_role("button", name="Show").click()
    page.wait_for_selector(".plot[data-ready]")
    assert page.evaluate("Math.max(...document.querySelector('.plot').data.at(-1).y)") == 99
    drawn = page.evaluate("document.querySelector('.plot').data.at(-1).x.length")
    assert drawn < ROWS / 5
    box = page.locator(".plot .nsewdrag").bounding_box()
    assert box
    middle = box["y"] + box["height"] / 2
    where = box["x"] + box["width"] * SPIKE / ROWS
    page.mouse.move(where - 15, middle)
    page.mouse.down()
    page.mouse.move(where + 15, middle, steps=4)
    page.mouse.up()
    page.get_by_text(re.compile("samples drawn between")).wait_for()
    shown, samples = map(int, str(page.locator(".plot").get_attribute("data-drawn")).split("/"))
    assert shown == samples < 2400, "all samples of the stretch"
    x, y = page.evaluate("""() => {
        const plot = document.querySelector('.plot'), line = plot.data.at(-1), i = line.y.indexOf(99), full = plot._fullLayout;
        const box = plot.getBoundingClientRect();
        return [box.x + full.xaxis._offset + full.xaxis.l2p(line.x[i]), box.y + full.yaxis._offset + full.yaxis.l2p(line.y[i])];
    }""")
    page.wait_for_timeout(500)  # sooner it would be a double click
    page.mouse.move(x - 2, y + 2)
    page.mouse.move(x, y)
    page.wait_for_selector(".hoverlayer .hovertext")
    page.mouse.click(x, y)
    page.wait_for_selector("#bytes")
    line = f"P1,A,{5000 + SPIKE},W7,long,99.0,1"
    assert line in page.inner_text("pre")
    assert line.encode()[:16].hex(" ") in page.inner_text("#bytes")


def test_keys_alone_lead_to_the_content(page: Page, address: str, errors: list[str]) -> None:
    page.goto(f"{address}/quarantine")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.get_by_role("row").nth(1).get_by_role("link").press("Enter")
    assert b"P1,A,soon".hex(" ") in page.inner_text("#bytes")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(page: Page, address: str, errors: list[str], scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{address}/tool?tool=P1")
    page.wait_for_selector(".plot[data-ready] text")
    for selector, ground in (("p, td, th, a, label, figcaption", "body"), (".xtick text", "body")):
        shades = page.evaluate(
            "([s, g]) => [[...document.querySelectorAll(s)].map(e => getComputedStyle(e)[e.closest('svg') ? 'fill' : 'color']), "
            "getComputedStyle(document.querySelector(g)).backgroundColor]",
            [selector, ground],
        )
        for shade in set(shades[0]):
            assert _contrast(shade, shades[1]) >= 4.5, (selector, shade)


def _contrast(one: str, other: str) -> float:
    def luminance(text: str) -> float:
        parts = np.array([float(part) for part in text[text.index("(") + 1 : -1].split(",")[:3]]) / 255
        linear = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_nothing_is_wider_than_a_narrow_window(page: Page, tmp_path: Path, polisher: Any) -> None:
    """Long names of tools and wafers, too: tables scroll in themselves, the page does not."""
    site = polisher(tmp_path)
    long = "A_VERY_LONG_NAME_" * 8
    site.file(
        "1.csv", [row.replace("P1,", f"{long},", 1).replace(",W", f",{long}", 1) for row in site.rows(range(4))] + ["P1,A,soon,W9,ramp,1,1"]
    )
    with loadlock.open(site.folder / "fab.lake") as lake:
        lake.ingest(site.drop, config=site.config)
    page.set_viewport_size({"width": 390, "height": 800})
    with served(site.folder / "fab.lake") as address:
        for path in ("/", f"/tool?tool={long}", f"/wafer?tool={long}&wafer={long}1", "/quarantine", "/ledger", "/circuits", "/sql"):
            answer = page.goto(address + path)
            assert answer
            assert answer.status == 200
            if page.locator(".plot").count():
                page.wait_for_selector(".plot[data-ready]")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    page.set_viewport_size({"width": 1200, "height": 900})


def test_the_report_fits_on_paper(page: Page, address: str, tmp_path: Path, lake_path: Path) -> None:
    with loadlock.open(lake_path, read_only=True) as lake:
        write(lake, tmp_path / "report.html")
    page.emulate_media(color_scheme="dark")
    page.goto(f"file://{tmp_path}/report.html")
    page.wait_for_selector(".plot[data-ready]")
    assert page.locator(".plot .main-svg").first.bounding_box()["width"] > 700  # type: ignore[index]
    page.emulate_media(media="print")
    page.wait_for_timeout(300)
    boxes = [box for box in (plot.bounding_box() for plot in page.locator(".plot").all()) if box]
    assert boxes
    for box in boxes:
        assert box["height"] <= 240, "three on a page"
    widths = page.evaluate("[...document.querySelectorAll('.plot .main-svg')].map(svg => svg.getBoundingClientRect().width)")
    assert max(widths) <= 700
    assert page.evaluate("getComputedStyle(document.querySelector('.xtick text')).fill") == "rgb(27, 37, 48)", "dark ink on white paper"
    pages = len(re.findall(rb"/Type /Page\b", page.pdf(prefer_css_page_size=True)))
    assert pages <= 2 + len(boxes) / 2
    page.emulate_media(media="screen")
    page.wait_for_timeout(300)
    assert page.locator(".plot .main-svg").first.bounding_box()["width"] > 700  # type: ignore[index]
