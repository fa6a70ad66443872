"""The picture of README and tutorial is what its script draws: the same size, small, and of the wafer that leaks."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def picture() -> Any:
    spec = importlib.util.spec_from_file_location("picture", ROOT / "scripts" / "picture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of a PNG, from its header."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def test_it_is_drawn_from_the_tutorials_lake(picture: Any, tmp_path: Path) -> None:
    drawn = picture.figure(tmp_path)
    lines = [trace for trace in drawn["data"] if "band" not in trace.get("name", "band") and "median" not in trace["name"]]
    assert len(lines) == 12
    ends = {line["name"]: line["y"][-1] for line in lines}
    leaking = max(ends, key=lambda name: ends[name])
    assert (leaking, lines[-1]["name"]) == ("L2604-002 W08", "L2604-002 W08")
    assert ends.pop(leaking) - max(ends.values()) > 3
    picture.draw(drawn, tmp_path / "leak.png")
    assert size_of(tmp_path / "leak.png") == size_of(picture.PICTURE)
    assert picture.PICTURE.stat().st_size < 200_000
