"""The benchmarks' helpers at a tiny size: decoders that agree, peers that hold the same rows, answers that are checked."""

from __future__ import annotations

import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loadlock
from benchmarks import (
    bench_commit,
    bench_dedupe,
    bench_infrastructure,
    bench_queries,
    bench_sizes,
    capacity,
    capture,
    chains,
    measure,
    plant,
    postgres,
    shop,
)

STEPS = 5


@pytest.fixture(scope="module")
def payload() -> bytes:
    tool = capture.Tool("ETCH01")
    return b"".join(tool.next_step() for _ in range(2))


@pytest.fixture(scope="module")
def delivery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("delivery")
    capture.write(folder, int(bench_infrastructure.SMALL_MB * 1e6), tools=bench_infrastructure.TOOLS)
    return folder


def test_the_plain_decoders_agree(payload: bytes) -> None:
    by_numpy = shop.numpy_columns("ETCH01", payload)
    by_struct = list(shop.struct_messages(payload))
    assert by_numpy.seq.tolist() == [message[0] for message in by_struct]
    assert by_numpy.ts_us.tolist() == [shop.time_us(message[1].decode()) for message in by_struct]
    assert np.array_equal(by_numpy.values, np.array([message[2:] for message in by_struct]))
    assert [window.step for window in by_numpy.windows] == list(capture.STEPS[:2])
    assert len(by_struct) == 2 * capture.STEP_MESSAGES + capture.RESENT_MESSAGES


def test_secsgem_decodes_the_same(payload: bytes) -> None:
    size = next(stop for start, stop in shop.frames(payload) if not shop.is_event(payload, start))
    (trace,), reports = shop.secsgem_messages(payload[:size])
    seq, stime, *values = next(shop.struct_messages(payload))
    assert trace == (seq, stime.decode(), *values)
    assert reports == shop.event_reports(payload[:size])


@pytest.mark.parametrize("chain", ["numpy_polars", "loadlock"])
def test_a_chain_answers_what_was_sent(chain: str, delivery: Path, tmp_path: Path) -> None:
    load, session = chains.CHAINS[chain]
    load(delivery, tmp_path / chain)
    ask = session(tmp_path / chain)
    values = shop.numpy_columns("ETCH02", (delivery / "ETCH02" / "0000.hsms").read_bytes())
    _, first = np.unique(values.seq, return_index=True)
    span = slice(600, 1200)  # the second minute at 10 Hz
    assert ask("series") == (600, pytest.approx(values.values[first, 41][span].sum()))
    assert ask("overlay")[0] == 2 * capture.STEP_MESSAGES
    assert ask("trend")[0] == 2 * STEPS


def test_reductions_are_ratios_of_the_axes() -> None:
    queries = {f"read_{query}": 1.0 for query in chains.QUERIES}
    ours: dict[str, Any] = {"chain": "loadlock", "cpu": 1.0, "bytes_per_sample": 1.0, "peak_mb": 1.0, "processes": 1, **queries}
    theirs = ours | {"chain": "other", "cpu": 32.0}
    (found,) = bench_infrastructure.reductions([ours, theirs], ours, "cpu")
    assert found["cpu_percent"] == pytest.approx(100 * 31 / 32)
    assert found["stored_percent"] == 0
    assert found["composite_percent"] == pytest.approx(50)


def test_sizes_of_all_formats(tmp_path: Path) -> None:
    rows = bench_sizes.measure("mix", tmp_path, tmp_path, 1.0)
    sizes = {row["format"]: row["bytes"] for row in rows}
    assert set(bench_sizes.PEERS) < set(sizes)
    assert sizes["json_lines"] > sizes["csv"] > sizes["csv_gz"] > sizes["pcodec_values"] > 0
    assert sizes["ours_whole_lake"] > sizes["ours"] > sizes["ours_narrow_columns"]
    assert {figure.name for figure in bench_sizes.figures(list(rows))} == {f"{name}_mix" for name in bench_sizes.RATIOS.values()}


def test_the_series_are_cut_where_the_key_changes(tmp_path: Path) -> None:
    lake = bench_sizes.mix_lake(tmp_path, tmp_path, 1.0)
    rows = bench_sizes.narrow_rows(lake)
    parts = bench_sizes.series(rows)
    assert sum(map(len, parts)) == rows.num_rows
    assert len(parts) % capture.SVS == 0


def test_where_memory_is_short_the_large_deduplication_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    found = bench_dedupe.once(1_000_000, 500_000)
    assert {f"{name}_1M" for name in ("dedupe_vs_key_sum", "dedupe_vs_best_peer", "dedupe_late_vs_peer")} < {
        one.name for one in found.further
    }
    assert not found.figures
    monkeypatch.setattr(bench_dedupe, "sysconf", lambda _name: 1_000)
    (missing,) = bench_dedupe.once(1_000_000, 500_000).further
    assert missing.value is None
    assert "1 M keys need" in missing.note


def test_queries_answer_what_the_plant_generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        (plant, "TOOLS", ("ETCH04", "ETCH05")),
        (plant, "STEP_MESSAGES", 32),
    ):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(plant, "PERIOD_CS", 60 * 60 * 100 // (plant.STEPS_AN_HOUR * 32))
    small = plant.Plant(tmp_path)
    with loadlock.open(small.lake) as lake:
        for _ in range(plant.HOURS_LEAST):
            small.hour(lake)
    for name, expected in small.answers().items():
        found = bench_queries.ask(small.lake, name)
        assert bench_queries.same(found["answer"], expected), name
        assert found["catalog_bytes"] > 0
    rows = bench_queries.measure(small, small.lake, bench_queries.AS_DELIVERED)
    rows += bench_queries.measure(small, bench_queries.compacted(small.lake), bench_queries.COMPACTED)
    by = {(row["query"], row["files"]): row for row in rows}
    assert by["day", "compacted"]["files_read"] < by["day", "delivered"]["files_read"]
    assert {figure.name for figure in bench_queries.figures(list(rows))} >= {"day_delivered_data_vs_held", "day_compacted_data_vs_held"}
    held, groups, every = bench_queries.held_bytes(small.lake, bench_queries.QUERIES["day"])
    assert held > 0
    assert groups < every
    assert not bench_queries.same((1, 2.0), (1, 2.1))


def test_a_lake_filled_with_small_files_takes_commits(tmp_path: Path) -> None:
    found = bench_commit.run(tmp_path, (4, 12), 2)
    few, more = found.tables["commits"]
    assert (few["files"], more["files"]) == (4, 12)
    assert few["commit_ms"] < few["ingest_ms"]
    with loadlock.open(tmp_path / "commit.lake", read_only=True) as lake:
        rows = lake.sql("select count(*) from traces where tool like 'FILL%'").fetchall()
    assert rows[0][0] % bench_commit.FILE_ROWS == 0
    assert {figure.name for figure in found.further} == {
        "ingest_ms_at_4_files",
        "ingest_ms_at_12_files",
        "ingest_growth",
        bench_commit.DURABLE,
    }


def test_small_files_differ() -> None:
    first, second = itertools.islice(map(bench_commit.small_rows, itertools.count()), 2)
    assert first.column("tool")[0] != second.column("tool")[0]


def test_a_server_of_our_own_starts_and_stops() -> None:
    with tempfile.TemporaryDirectory(prefix="loadlock-pg-") as name:  # pytest's own folders are closed to the server's user
        folder = Path(name)
        folder.chmod(0o755)
        try:
            with postgres.server(folder / "server") as server:
                assert server.sql("select 1 + 1") == "2"
                size, milliseconds = server.explained("select count(*) from pg_class")
                assert size > 0
                assert milliseconds > 0
                assert server.cpu_s() > 0
        except postgres.Absent as reason:
            pytest.skip(str(reason))
        assert not (folder / "server").exists()


def test_a_result_file_holds_figures_and_parts(tmp_path: Path) -> None:
    figures = [measure.Figure("some_ratio", 0.5, "x", 1.0, at_least=False)]
    measure.write_result(tmp_path / "r.json", figures, rows=[{"a": 1}])
    written = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert written["schema"] == 1
    assert written["figures"][0]["reached"] is True
    assert written["rows"] == [{"a": 1}]


def test_rows_as_text_line_up() -> None:
    text = measure.rows_text([{"name": "a", "count": 1, "share": 0.25}, {"name": "longer", "count": 20, "share": None}])
    assert text.splitlines() == ["name    count  share", "a           1   0.25", "longer     20      -"]


def test_the_capacity_page_is_what_the_results_say() -> None:
    assert capacity.page() == capacity.PAGE.read_text(encoding="utf-8")
