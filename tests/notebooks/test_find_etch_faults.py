"""The notebook runs from ingest to the faults, on the real data, and its answers are those of the page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "find_etch_faults.py"

RUN = """
import json, sys
sys.path.insert(0, sys.argv[1])
from find_etch_faults import app
_outputs, names = app.run()
print(json.dumps({
    "payloads": names["summary"].payloads,
    "found": names["found"].to_dicts(),
    "wafers": [len(bars.x) for bars in names["wafers_chart"].data],
    "sensors": len(names["sensors_chart"].data[0].y),
    "overlay": [names["overlay"].height, len(names["overlay_chart"].data), names["overlay_chart"].data[-1].name],
}))
"""


def run(data: Path, folder: Path, *command: str) -> str:
    environment = os.environ | {
        "LOADLOCK_REAL_DATA": str(data),
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "MARIMO_SKIP_UPDATE_CHECK": "1",
    }
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def answers(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return json.loads(run(real_data, tmp_path_factory.mktemp("notebook"), "-c", RUN, str(NOTEBOOK.parent)).splitlines()[-1])


def test_it_finds_the_faulty_wafers(answers: Any) -> None:
    assert answers["payloads"]["committed"] == 81
    found = {(row["lot"], row["wafer"]): row for row in answers["found"]}
    assert {wafer for lot, wafer in found if lot == "faulty"} == set(range(1, 10))
    assert {wafer for lot, wafer in found if lot == "normal"} == {28, 35, 56, 71}
    assert found["faulty", 4]["sensor"] == "vat_valve"
    assert found["faulty", 5]["sigmas"] == pytest.approx(5.1, abs=0.05)


def test_its_charts_hold_the_data(answers: Any) -> None:
    assert sorted(answers["wafers"]) == [9, 71]
    assert answers["sensors"] == 19
    rows, lines, name = answers["overlay"]
    assert rows > 1000
    assert lines == 72  # a wafer each: the one chosen, and 71 normal ones (wafer 56 has no over-etch)
    assert name == "faulty 4"


def test_it_is_a_page(real_data: Path, tmp_path: Path) -> None:
    page = tmp_path / "faults.html"
    run(real_data, tmp_path, "-m", "marimo", "-q", "export", "html", str(NOTEBOOK), "-o", str(page))
    text = page.read_text(encoding="utf-8")
    for words in (
        "Find faulty wafers in etch traces",
        "Furthest statistic of each wafer",
        "How far each sensor moved",
        "faulty wafer 4 over",
    ):
        assert words in text
    assert "Traceback" not in text
