"""Rejected rows of tables are decoded again: what a good configuration makes of them is what it would have made of the files."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import loadlock
from ingest.config import Config

GOOD = {"column": "TIME", "format": "%d.%m.%Y %H:%M:%S"}
BAD = {"column": "TIME", "format": "%m.%d.%Y %H:%M:%S"}
"""Month first: days after the 12th can't be read."""

ISO = {"column": "TIME"}
HEADER = "TOOL;WAFER;TIME;SEQ;PRESSURE;NOTE;FLOW"
LIMITS = {"line_bytes": 1 << 10}


def config(limits=None, **keys):
    """A configuration of one table, ``polish``, in which every numeric column is a sensor."""
    table = {"tool": {"column": "TOOL", "prefix": "CMP"}, "context": {"wafer": "WAFER"}, "seq": "SEQ", **keys}
    match = {"match": "drop/*", "format": "table", "table": "polish"}
    patient = {"minimum_bytes": 1 << 30, "minimum_frames": 1 << 30, "failures": 1 << 30}  # rubbish on purpose: no circuit opens
    return Config.model_validate({"sources": [match], "tables": {"polish": table}, "limits": limits or {}, "circuit": patient})


def row(seq, time, *, tool="1", note="ok", pressure=None):
    """A row whose NOTE is no number."""
    return f"{tool};W{seq // 4};{time};{seq};{pressure or seq / 7!r};{note};{seq % 3}"


def drop(folder, name, lines, header=HEADER, *, ended=True):
    """Write a text file into the drop folder."""
    path = folder / "drop" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes("\n".join([header, *lines]).encode() + (b"\n" if ended else b""))
    return path


def states(lake):
    return dict(lake.sql("select state, count(*) from quarantine group by all").fetchall())


def digest_of(folder, paths, chosen):
    """The digest of a lake that ingests ``paths`` under ``chosen`` from the start."""
    with loadlock.open(folder / "good.lake") as good:
        good.ingest(paths, config=chosen)
        assert states(good) == {}
        return good.digest()


@pytest.fixture
def lake(tmp_path):
    with loadlock.open(tmp_path / "fab.lake") as opened:
        yield opened


def replayed(lake, chosen, assert_conserved, ids=()):
    """Replay, and prove the account: each row is a frame, nothing is left in quarantine or other."""
    summary = lake.replay(ids, config=chosen)
    document = assert_conserved(summary, lake)
    for name in ("quarantined", "other"):
        assert document["bytes"][name] == document["frames"][name] == 0
    return summary


def test_rows_whose_time_format_was_wrong_come_in_as_if_it_had_been_right(lake, tmp_path, assert_conserved):
    # the second file's name order is another one, so that the two dialects differ
    swapped = "SEQ;TOOL;WAFER;TIME;FLOW;NOTE;PRESSURE"
    late = [row(seq, f"2026-03-{13 + seq} 10:00:00" if seq == 3 else f"{13 + seq}.03.2026 10:00:00") for seq in range(6)]
    other = [f"{seq};2;W9;{13 + seq}.03.2026 11:00:00;{seq};x;{seq / 3!r}" for seq in range(4)]
    paths = [drop(tmp_path, "a.csv", late), drop(tmp_path, "b.csv", other, swapped)]
    first = lake.ingest(paths, config=config(time=BAD))
    assert_conserved(first, lake)
    assert (first.records["accepted"], states(lake)) == (0, {"open": 10})
    summary = replayed(lake, config(time=GOOD), assert_conserved)
    assert (summary.payloads["committed"], summary.records["accepted"]) == (2, 9)
    assert states(lake) == {"open": 1, "replayed": 9}  # the ISO time is still wrong
    assert lake.sql("select distinct tool from traces order by 1").fetchall() == [("CMP1",), ("CMP2",)]
    names = lake.sql("select distinct sensor from traces where tool = 'CMP1' and position = 1").fetchall()
    assert names == [("PRESSURE",)]
    good = [drop(tmp_path, "a.csv", late[:3] + late[4:]), paths[1]]
    assert lake.digest() == digest_of(tmp_path, good, config(time=GOOD))


def test_the_payload_is_the_rows_bytes_under_their_ids(lake, tmp_path, assert_conserved):
    lines = [row(seq, "14.03.2026 10:00:00") for seq in range(3)]
    lake.ingest(drop(tmp_path, "a.csv", lines), config=config(time=BAD))
    ids = [name for (name,) in lake.sql("select quarantine_id from quarantine order by start").fetchall()]
    summary = replayed(lake, config(time=GOOD), assert_conserved, ids[:2])
    assert summary.receipts[0].key == "quarantine:" + "+".join(ids[:2])
    assert summary.bytes["in"] == summary.bytes["accepted"] == sum(len(line) + 1 for line in lines[:2])
    assert states(lake) == {"open": 1, "replayed": 2}
    assert lake.replay(config=config(time=GOOD)).records["accepted"] == 1
    assert lake.replay(config=config(time=GOOD)).payloads["seen"] == 0


def test_one_bad_row_costs_no_other_and_keeps_the_files_sensors(lake, tmp_path, assert_conserved):
    # alone, the rejected row would make NOTE a number and so a sensor
    lines = [row(seq, f"2026-03-01 10:00:0{seq}", note="7" if seq == 2 else "ok") for seq in range(5)]
    lines[2] = lines[2].replace(";2;", ";n/a;", 1)
    path = drop(tmp_path, "a.csv", lines)
    first = lake.ingest(path, config=config(time=ISO))
    assert (first.records["accepted"], states(lake)) == (4, {"open": 1})
    before = lake.digest()
    assert replayed(lake, config(time=ISO), assert_conserved).payloads["seen"] == 0
    assert lake.digest() == before
    replayed(lake, config(time=ISO, seq=None), assert_conserved)
    assert lake.sql("select sensor, position, value from traces where ts = '2026-03-01 10:00:02' order by 2").fetchall() == [
        ("PRESSURE", 1, 2 / 7),
        ("FLOW", 2, 2.0),
    ]
    texts = lake.sql("select count(*) from texts").fetchall()
    assert texts == [(0,)]


def test_the_mapping_of_today_is_applied_to_the_stored_header(lake, tmp_path, assert_conserved):
    lines = [row(seq, "14.03.2026 10:00:00") for seq in range(3)]
    path = drop(tmp_path, "a.csv", lines)
    lake.ingest(path, config=config(time=BAD))
    today = config(time=GOOD, tool="P7", context={}, sensors=["FLOW", {"column": "PRESSURE", "name": "p"}])
    replayed(lake, config(time=GOOD, sensors=["GONE"]), assert_conserved)
    assert states(lake) == {"open": 3}
    replayed(lake, today, assert_conserved)
    assert states(lake) == {"replayed": 3}
    assert lake.sql("select distinct tool, sensor, position from traces order by 3").fetchall() == [("P7", "FLOW", 1), ("P7", "p", 2)]
    assert lake.digest() == digest_of(tmp_path, path, today)


def test_a_column_that_was_mapped_is_a_sensor_once_it_is_not(lake, tmp_path, assert_conserved):
    path = drop(tmp_path, "a.csv", [row(seq, f"14.03.2026 10:00:0{seq}") for seq in range(3)])
    lake.ingest(path, config=config(time=BAD))
    today = config(time=GOOD, seq=None)
    replayed(lake, today, assert_conserved)
    assert lake.digest() == digest_of(tmp_path, path, today)
    assert lake.sql("select distinct sensor, position from traces order by 2").fetchall() == [("SEQ", 1), ("PRESSURE", 2), ("FLOW", 3)]


def test_rows_over_a_limit_come_in_when_it_is_raised(lake, tmp_path, assert_conserved):
    lines = [row(seq, f"2026-03-01 10:00:0{seq}", note="x" * 3000 if seq in (1, 2, 4) else "ok") for seq in range(5)]
    path = drop(tmp_path, "a.csv", lines, ended=False)
    lake.ingest(path, config=config(LIMITS, time=ISO))
    assert lake.sql("select distinct reason from quarantine").fetchall() == [("too_long",)]
    assert replayed(lake, config(LIMITS, time=ISO), assert_conserved).payloads["seen"] == 0
    assert replayed(lake, config(time=ISO), assert_conserved).records["accepted"] == 3
    assert set(states(lake)) == {"replayed"}
    assert lake.digest() == digest_of(tmp_path, path, config(time=ISO))


def test_a_last_row_without_line_end_is_not_run_into_the_next_files(lake, tmp_path, assert_conserved):
    paths = [drop(tmp_path, f"{n}.csv", [row(2 * n + i, f"14.03.2026 10:00:0{n}") for i in (0, 1)], ended=False) for n in range(3)]
    lake.ingest(paths, config=config(time=BAD))
    summary = replayed(lake, config(time=GOOD), assert_conserved)
    assert (summary.payloads["committed"], summary.records["accepted"]) == (3, 6)
    assert lake.digest() == digest_of(tmp_path, paths, config(time=GOOD))


def test_a_stray_quote_does_not_keep_its_neighbours_out(lake, tmp_path, assert_conserved):
    lines = [row(seq, "14.03.2026 10:00:00", note='"5 inch' if seq % 2 else "ok") for seq in range(6)]
    path = drop(tmp_path, "a.csv", lines)
    lake.ingest(path, config=config(time=BAD))
    assert replayed(lake, config(time=GOOD), assert_conserved).records["accepted"] == 3
    assert replayed(lake, config(time=GOOD, quote=""), assert_conserved).records["accepted"] == 3
    assert lake.digest() == digest_of(tmp_path, path, config(time=GOOD, quote=""))


def test_the_tool_named_at_delivery_holds(lake, tmp_path, assert_conserved):
    path = drop(tmp_path, "a.csv", [row(seq, "14.03.2026 10:00:00") for seq in range(2)])
    lake.ingest(path, config=config(time=BAD), tool="X9")
    replayed(lake, config(time=GOOD), assert_conserved)
    assert lake.sql("select distinct tool from traces").fetchall() == [("X9",)]


def test_damaged_compression_stays_open(lake, tmp_path, assert_conserved):
    import gzip

    content = gzip.compress("\n".join([HEADER, *(row(i, "14.03.2026 10:00:00") for i in range(5000))]).encode())
    path = tmp_path / "drop" / "a.csv.gz"
    path.parent.mkdir()
    path.write_bytes(content[:9000] + b"\xff" * 200 + content[9200:])
    lake.ingest(path, config=config(time=BAD))
    replayed(lake, config(time=GOOD), assert_conserved)
    left = lake.sql("select reason from quarantine where state = 'open'").fetchall()
    assert ("bad_compression",) in left
    assert states(lake)["replayed"] > 100


# --- Parquet


def moments(seconds):
    return [datetime(2026, 3, 1, 10, 0, second, 250_000 * (second % 4), tzinfo=UTC) for second in seconds]


def columns():
    """Columns of every kind; ``TEXTS`` holds times as text."""
    return {
        "TOOL": pa.array(["1", "2"] * 3).dictionary_encode(),
        "WAFER": pa.array([f"W{i // 2}" for i in range(6)]),
        "TIME": pa.array(moments(range(6)), pa.timestamp("ns", "Europe/Berlin")),
        "TEXTS": pa.array([f"{14 + i}.03.2026 10:00:00" for i in range(6)]),
        "SEQ": pa.array(range(6), pa.uint64()),
        "PRESSURE": pa.array([i / 7 for i in range(6)], pa.float32()),
        "RATE": pa.array(["1.5", "", "oops", "1e3", "2", "3"]),
        "LEVEL": pa.array([float("nan"), 0.1, float("-inf"), 1e300, None, -0.0], pa.float64()),
        "DEPTH": pa.array([None, 2**60 + 1, 2, 3, 4, 2**63 - 1], pa.int64()),
        "ON": pa.array([True, None, False, True, True, False]),
        "LIST": pa.array([[i] for i in range(6)]),
    }


def parquet(folder, name, table):
    path = folder / "drop" / name
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(table), path)
    return path


def test_parquet_rows_come_in_with_their_types(lake, tmp_path, assert_conserved):
    path = parquet(tmp_path, "a.parquet", columns())
    # TEXTS in the wrong format refuses every row; under the good mapping the zoned nanoseconds are the time
    bad = config(time={"column": "TEXTS", "format": "%m.%d.%Y %H:%M:%S"})
    good = config(time=ISO)
    first = lake.ingest(path, config=bad)
    assert (first.records["accepted"], states(lake)) == (0, {"open": 6})
    summary = replayed(lake, good, assert_conserved)
    assert (summary.payloads["committed"], summary.records["accepted"]) == (1, 6)
    stored = [bytes(data) for (data,) in lake.sql("select bytes from quarantine order by start").fetchall()]
    assert summary.bytes["in"] == len(b"\n".join(stored))
    assert states(lake) == {"replayed": 6}
    assert lake.digest() == digest_of(tmp_path, path, good)
    assert {"LEVEL", "DEPTH", "ON"} <= {name for (name,) in lake.sql("select distinct sensor from traces").fetchall()}


def test_parquet_rows_that_are_still_bad_stay_open(lake, tmp_path, assert_conserved):
    table = columns()
    table["SEQ"] = pa.array(["0", "1", "x2", "3", "x4", "5"])
    path = parquet(tmp_path, "a.parquet", table)
    first = lake.ingest(path, config=config(time=ISO))
    assert (first.records["accepted"], states(lake)) == (4, {"open": 2})
    assert replayed(lake, config(time=ISO), assert_conserved).payloads["seen"] == 0
    table["SEQ"] = pa.array(["0", "1", "x2", "3", "4", "5"])
    other = parquet(tmp_path, "b.parquet", table | {"TEXTS": pa.array(["14.03.2026 10:00:00", *["?"] * 5])})
    by_text = config(time={"column": "TEXTS", "format": "%d.%m.%Y %H:%M:%S"})
    lake.ingest(other, config=by_text)
    assert states(lake) == {"open": 7}
    # both bad SEQ of the first file stay, and the one of the second
    summary = replayed(lake, config(time=ISO), assert_conserved)
    assert (summary.payloads["committed"], states(lake)) == (1, {"open": 3, "replayed": 4})
    assert summary.records["decoded"] == 4


def test_what_json_does_not_hold_stays_open(lake, tmp_path, assert_conserved):
    table = columns()
    table["WAFER"] = pa.array([b"W", b"\xff", b"W", b"\\xff", b"W", b"W"], pa.binary())
    path = parquet(tmp_path, "a.parquet", table)
    lake.ingest(path, config=config(time=ISO))
    assert lake.sql("select reason from quarantine").fetchall() == [("bad_text",)]
    assert json.loads(lake.sql("select bytes from quarantine").fetchall()[0][0])["WAFER"] == {"hex": "ff"}
    assert replayed(lake, config(time=ISO), assert_conserved).payloads["seen"] == 0
    assert replayed(lake, config(time=ISO, context={"wafer": "LIST"}), assert_conserved).payloads["seen"] == 0
    assert states(lake) == {"open": 1}
    assert replayed(lake, config(time=ISO, context={}), assert_conserved).records["accepted"] == 1


def test_parquet_with_the_sensors_of_today(lake, tmp_path, assert_conserved):
    path = parquet(tmp_path, "a.parquet", columns())
    bad = config(time={"column": "TEXTS", "format": "%m.%d.%Y %H:%M:%S"})
    good = config(time={"column": "TEXTS", "format": "%d.%m.%Y %H:%M:%S"}, sensors=["RATE", "PRESSURE", "DEPTH"], seq="DEPTH")
    lake.ingest(path, config=bad)
    summary = replayed(lake, good, assert_conserved)
    assert (summary.records["accepted"], states(lake)) == (5, {"open": 1, "replayed": 5})  # one DEPTH is null
    texts = lake.sql("select sensor, text from texts order by 1, 2").fetchall()
    assert texts == [("DEPTH", str(2**60 + 1)), ("DEPTH", str(2**63 - 1)), ("RATE", "oops")]
    with loadlock.open(tmp_path / "good.lake") as other:
        other.ingest(path, config=good)
        assert other.digest() == lake.digest()


def test_a_table_that_the_configuration_no_longer_has_leaves_its_rows_open(lake, tmp_path, assert_conserved):
    lake.ingest(drop(tmp_path, "a.csv", [row(0, "14.03.2026 10:00:00")]), config=config(time=BAD))
    assert replayed(lake, Config(), assert_conserved).payloads["seen"] == 0
    assert states(lake) == {"open": 1}
