"""Draw docs/leak.png, the picture of the README and the tutorial, from the tutorial's lake: ``python scripts/picture.py [FILE]``.

It is the overlay that ``loadlock report`` draws, with the leaking wafer in colour. Needs Chromium.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "leak.png"
WIDTH, SCALE = 860, 1.5
SENSOR, STEP = "throttle_position", "main"


def configuration() -> str:
    """Return the tutorial's configuration, as its page gives it."""
    found = re.search(r"```toml\n(# fab\.toml\n.*?)```", (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[1]


def figure(folder: Path) -> dict[str, Any]:
    """Ingest the tutorial's deliveries in ``folder``, and return plotly's figure of the second lot over the band of the first."""
    import loadlock
    from loadlock.console import figures
    from loadlock.console.series import band, overlay
    from sample_data import leak

    leak.write(folder / "drop")
    (folder / "fab.toml").write_text(configuration(), encoding="utf-8")
    golden, lot = leak.LOTS
    with loadlock.open(folder / "etch.lake") as lake:
        lake.ingest(folder / "drop", config=folder / "fab.toml")
        connection = lake.store.connection
        windows = lake.sql("SELECT window_id, lot, wafer FROM windows WHERE step = ? ORDER BY started_at", [STEP]).fetchall()
        names = {window: f"{of} {wafer}" for window, of, wafer in windows if of == lot}
        marked = {window for window, of, wafer in windows if (of, wafer) == (leak.LEAKY[0], f"W{leak.LEAKY[1]:02d}")}
        lines = overlay(connection, leak.TOOL, SENSOR, list(names))["lines"]
        edges = band(connection, leak.TOOL, SENSOR, [window for window, of, _ in windows if of == golden], leak.LENGTHS_DS[1] / 10)
    drawn = figures.overlay_chart(lines, names, f"{SENSOR} (%)", marked)
    for i, line in enumerate(drawn["data"]):
        if line["name"] == next(names[window] for window in marked):
            line["line"] = {"color": figures.ALARM, "width": 2.2}
        else:
            line |= {"name": "the other wafers of the lot", "showlegend": i == 0}
    drawn["data"] = figures.band_traces(*edges) + drawn["data"]
    drawn["layout"]["height"] = 360
    return drawn


def draw(drawn: dict[str, Any], path: Path) -> None:
    """Draw a figure into the file ``path`` with Chromium."""
    from playwright.sync_api import sync_playwright

    from loadlock.console import assets
    from loadlock.console.html import Html, chart, tag

    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program, "no Chromium here: install it, on Debian with 'apt-get install chromium'"
    style = assets.own("console.css") + "body { background: #fff; margin: 0 } figure { margin: 0; border: 0 } figcaption { display: none }"
    scripts = [tag("script", Html(source)) for source in (assets.plotly(), assets.own("console.js"))]
    body = tag("body", chart(drawn, "The throttle valve over the band of the lot before"), *scripts)
    page = tag("html", tag("head", tag("meta", charset="utf-8"), tag("style", Html(style))), body)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": WIDTH, "height": 600}, device_scale_factor=SCALE, color_scheme="light")
        shown.set_content("<!doctype html>" + page)
        shown.wait_for_selector(".plot[data-ready]")
        shown.add_style_tag(content=".modebar { display: none }")
        shown.locator("figure").screenshot(path=path)
        browser.close()


def main() -> None:
    """Draw the picture into the file that is named, else into the documentation."""
    with tempfile.TemporaryDirectory() as folder:
        draw(figure(Path(folder)), Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
