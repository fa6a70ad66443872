"""Encoded items and frames from another project's tests decode as their source says."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ingest.config import Limits
from ingest.hsms_frames import FrameWalker
from ingest.items import json_value, read
from kernels import secs
from kernels.reference.encode import frame, listed, trace

REAL = Path(os.environ.get("LOADLOCK_REAL_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
VECTORS = REAL / "secs_vectors" / "vectors.jsonl"
LINES: list[dict[str, Any]] = [json.loads(line) for line in VECTORS.read_text().splitlines()] if VECTORS.exists() else []
ITEMS = [line for line in LINES if line["kind"] == "item"]

pytestmark = pytest.mark.skipif(not LINES, reason="the real data are not here (LOADLOCK_REAL_DATA)")


def walk(data: bytes) -> Any:
    return FrameWalker(Limits()).run(np.frombuffer(data, np.uint8), True)[1]


@pytest.mark.parametrize("line", ITEMS, ids=lambda line: str(line.get("made_by"))[:40])
def test_items_are_sound_and_have_their_values(line: dict[str, Any]):
    raw = bytes.fromhex(line["hex"])
    assert walk(frame(99, 1, raw)).other_frames == 1
    assert not walk(frame(99, 1, raw + b"\0")).other_frames
    assert not walk(frame(99, 1, raw[:-1])).other_frames
    # As the values of a trace: a list of this item and nothing else.
    stretch = walk(trace(listed(raw)))
    assert stretch.messages.shape[1] == 1
    number = re.fullmatch(r".*\((?:\[\w+\], )?(-?[0-9.]+)\)", line.get("made_by") or "")
    if number:
        assert json_value(read(raw)) in (float(number[1]), [float(number[1])])
        if raw[0] >> 2 not in (0o20, 0o21):
            assert stretch.values.tolist() == [float(number[1])]


def test_headers_and_frames():
    for line in LINES:
        raw = bytes.fromhex(line["hex"])
        if line["kind"] == "hsms_frame":
            stretch = walk(raw)
            assert stretch.other_bytes == len(raw)
        elif line["kind"] == "hsms_header":
            assert len(raw) == secs.HEADER
