"""The report: one page with all in it, bounded, and whatever stands in names and bytes stays text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import loadlock
from loadlock.console import assets
from loadlock.console.html import data, tag
from loadlock.report import Wishes, document

Run = Callable[..., Any]
HOSTILE = "</script><img src=x onerror=alert(1)>'; DROP TABLE traces; --"


class Page(HTMLParser):
    """Collects elements, the addresses that they load, and the charts' JSON."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.figures: list[Any] = []
        self._json = False
        self.feed(text)

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(name)
        self.loads += [f"{key}={value}" for key, value in attributes if key in ("src", "href", "srcset", "action")]
        self._json = ("type", "application/json") in attributes

    def handle_data(self, text: str) -> None:
        if self._json:
            self.figures.append(json.loads(text))
            self._json = False


def test_one_page_holds_everything_and_loads_nothing(site: Any, tmp_path: Path, loadlock_command: Run) -> None:
    out = tmp_path / "report.html"
    answer = loadlock_command("report", "-o", out, "--lake", site.lake, "--json")
    assert (answer.code, answer.json["bytes"]) == (0, out.stat().st_size)
    text = out.read_text(encoding="utf-8")
    page = Page(text)
    assert page.loads == []
    assert assets.plotly() in text
    assert len(text) < len(assets.plotly()) + 500_000
    for words in ("Data quality per tool and day", "Gaps", "Quarantine", "Features that moved most", "Traces against the golden band"):
        assert f"<h2>{words}</h2>" in text
    names = [trace.get("name") for figure in page.figures for trace in figure["data"]]
    assert {"upper limit", "EWMA", "golden band", "PRESSURE"} <= set(names)
    assert "value" in text
    assert page.tags.count("caption") >= 3
    assert "@media print" in text


def test_tool_lot_and_golden_lot_choose(site: Any, loadlock_command: Run, tmp_path: Path) -> None:
    for options, wanted in ((("--tool", "P9"), "there are P1"), (("--lot", "L9"), "no lot 'L9'"), (("--golden", "L9"), "no lot 'L9'")):
        answer = loadlock_command("report", *options, "-o", tmp_path / "r.html", "--lake", site.lake)
        assert answer.code == 2
        assert wanted in answer.err
    assert loadlock_command("report", "-o", tmp_path / "no" / "r.html", "--lake", site.lake).code == 5
    assert loadlock_command("report", "--tool", "P1", "-o", tmp_path / "r.html", "--lake", site.lake).code == 0


def test_hostile_names_stay_text(polisher: Run, tmp_path: Path) -> None:
    site = polisher(tmp_path)
    site.config.write_text(site.config.read_text().replace('context = { wafer = "WAFER"', 'context = { lot = "TOOL", wafer = "WAFER"'))
    rows = [row.replace("P1,", f"{HOSTILE},", 1) for row in (*site.rows(range(4)), *site.rows([7], offset=3), "P1,A,soon,W9,ramp,1,1")]
    site.file("1.csv", rows)
    with loadlock.open(tmp_path / "fab.lake") as lake:
        lake.ingest(site.drop, config=site.config)
        assert lake.status()["tools"][0]["tool"] == HOSTILE
        plain = Page(document(lake, Wishes())).tags
        hostile = Page(document(lake, Wishes(HOSTILE, HOSTILE))).tags
    for tags in (plain, hostile):
        assert "img" not in tags
        assert tags.count("script") == tags.count("figure") + 2


@pytest.mark.parametrize("value", ["</script>", "<!--<script>", "a & b", float("nan"), 0, None, False])
def test_nothing_ends_a_block_of_json(value: object) -> None:
    block = data({"a": [value]})
    assert re.findall("[<>&]", block.removeprefix('<script type="application/json">').removesuffix("</script>")) == []
    assert tag("p", 0, None, "<b>", title='"<') == '<p title="&quot;&lt;">0&lt;b&gt;</p>'


def test_an_empty_lake_has_a_page(tmp_path: Path) -> None:
    with loadlock.open(tmp_path / "empty.lake") as lake:
        page = Page(document(lake, Wishes()))
    assert page.figures == []
    assert "main" in page.tags
