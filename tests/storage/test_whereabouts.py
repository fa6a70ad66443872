"""What is read from the files that the catalog's statistics name is what DuckLake reads, rows deleted and files merged included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import loadlock
from benchmarks import capture
from storage.history import History
from storage.whereabouts import Whereabouts

TOOLS = ("ETCH01", "ETCH02")
PLACE = ("A", str(capture.TRID))


@pytest.fixture(params=["plain", "odd [names] tool=X *?"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    folder = tmp_path / request.param
    capture.write(folder / "drop", 2 << 20, tools=TOOLS, payloads=3)
    with loadlock.open(folder / "a.lake") as opened:
        for number in range(3):
            files = [folder / "drop" / tool / f"{number:04d}.hsms" for tool in TOOLS]
            opened.ingest(files, config=folder / "drop" / "loadlock.toml")
        yield opened


def asked(lake: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the answers about each tool and each third of its time, by the files and by DuckLake, which must be the same."""
    out = []
    for tool in TOOLS:
        ((lo, hi),) = lake.store.rows("SELECT epoch_us(min(ts)), epoch_us(max(ts)) FROM lake.main.traces WHERE tool = ?", [tool])
        streams = [row[0] for row in lake.store.rows("SELECT DISTINCT stream FROM lake.main.traces WHERE tool = ?", [tool])]
        windows = [row[0] for row in lake.store.rows("SELECT window_id FROM lake.main.windows_log WHERE tool = ?", [tool])]
        cuts = [lo + (hi - lo) * i // 3 for i in range(4)]
        ranges = [[(cuts[0], cuts[1])], [(cuts[1], cuts[1]), (cuts[2], cuts[3])], [(hi + 1, hi + 2)], [(lo, hi)]]
        both = []
        for by_files in (True, False):
            with monkeypatch.context() as patched:
                if not by_files:
                    patched.setattr(Whereabouts, "of", lambda *_: None)
                history = History(lake.store)
                found: list[Any] = []
                for some in ranges:
                    contents = history.contents(tool, *PLACE, streams, some)
                    found.append([contents.stream, contents.payload, *(column.tolist() for column in (contents.seq, contents.bits))])
                found += [[column.tolist() for column in history.keys(tool, *PLACE, streams[0], *span)] for (span, *_) in ranges]
                found.append(history.windows(tool, windows, lo, hi, []).to_pylist())
                both.append(found)
        assert both[0] == both[1]
        out.append(both[0])
    return out


def test_files_tell_what_ducklake_tells(lake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = asked(lake, monkeypatch)
    assert all(found[3][0] for found in everything)
    assert not any(found[2][0] for found in everything)
    whole = Whereabouts(lake.store, "traces")
    span = [(0, 1 << 61)]
    assert all(len(whole.of(tool, span) or ()) == 3 for tool in TOOLS)
    assert whole.of("ETCH03", span) == []
    (payload,) = lake.store.rows("SELECT payload_id FROM lake.main.payloads WHERE source LIKE '%ETCH01%0001.hsms'")
    lake.retract(payload[0], "wrong")
    some = asked(lake, monkeypatch)
    assert some != everything
    lake.compact(everything=True)
    assert asked(lake, monkeypatch) == some
    assert all(len(Whereabouts(lake.store, "traces").of(tool, span) or ()) == 1 for tool in TOOLS)


def test_rows_deleted_from_a_file_are_left_to_ducklake(lake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.store.connection.execute("DELETE FROM lake.main.traces WHERE tool = 'ETCH01' AND seq % 7 = 0")
    span = [(0, 1 << 61)]
    found = Whereabouts(lake.store, "traces")
    assert found.of("ETCH01", span) is None
    assert len(found.of("ETCH02", span) or ()) == 3
    asked(lake, monkeypatch)
