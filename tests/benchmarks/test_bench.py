"""All parts of ``make bench`` at a tiny size, and the page and chart that are made of them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import bench, bench_pipeline, report
from benchmarks.goals import GOALS, figure, ratio
from benchmarks.measure import Figure, Spread, write_result

TINY = bench.Sizes(
    rounds=1,
    decode_mb=1,
    secsgem_messages=2,
    table_mb=1,
    pipeline_mb=1,
    pipeline_rounds=1,
    threads_mb=2,
    threads_rounds=1,
    memory_mb=0.5,
    memory_rounds=1,
    start_rounds=1,
    cold_rounds=1,
    cold_source_rounds=0,
    keys=20_000,
    keys_batch=10_000,
    keys_rounds=1,
    samples=250_000,
    quantile_samples=250_000,
    write_steps=1,
    sizes_mb=1,
    data_sets=("mix",),
)


def test_the_parts_give_every_figure(tmp_path: Path) -> None:
    found = bench.measure(list(bench.PARTS), TINY)
    figures = bench.ordered(found.figures)
    assert [one.name for one in figures] == list(GOALS)
    assert all(one.value is not None for one in figures)
    assert not {one.name for one in found.further} & set(GOALS)
    write_result(tmp_path / "bench.json", figures, further=[one.row() for one in found.further], settings=asdict(TINY), **found.tables)
    result = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    text = report.page(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n", report.generated(result))
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert all(f"| `{name}` |" in text for name in GOALS)
    ElementTree.fromstring(report.chart(result["figures"]))


def test_the_page_is_what_the_result_says() -> None:
    result = json.loads(report.RESULT.read_text(encoding="utf-8"))
    text = report.PAGE.read_text(encoding="utf-8")
    assert report.page(text, report.generated(result)) == text
    text = report.README.read_text(encoding="utf-8")
    assert report.page(text, report.summary(result)) == text
    assert report.chart(result["figures"]) == report.CHART.read_text(encoding="utf-8")


@pytest.mark.parametrize(("value", "said"), [(1.0, "goal reached"), (0.6, "floor holds"), (0.4, "**floor missed**")])
def test_a_line_says_which_limit_holds(value: float, said: str) -> None:
    assert said in report.line(figure("decode_f4_vs_memcpy", value).row())


def test_what_was_not_measured_says_why() -> None:
    text = report.line(figure("dedupe_vs_best_peer", None, "no peers here").row())
    assert "not measured" in text
    assert "no peers here" in text


def test_a_ratio_is_that_of_the_best_rounds() -> None:
    found = ratio("write_vs_pyarrow", Spread.of([4.0, 6.0]), Spread.of([2.0, 1.0]))
    assert (found.value, found.low, found.high) == (4.0, 2.0, 6.0)


def test_less_is_better_where_it_is() -> None:
    assert Figure("a", 1.0, "x", 1.1, at_least=False, floor=0.9).reached is True
    assert Figure("a", 1.0, "x", 1.1, at_least=False, floor=0.9).holds is False
    assert report.score({"value": 2.0, "at_least": False}, 4.0) == 2.0


def test_a_bare_ingest_leaves_quantiles_and_hashes_out(tmp_path: Path) -> None:
    runs = bench_pipeline.Runs(tmp_path, 1)
    runs.ingest_bare()
    with bench_pipeline.loadlock.open(runs.lake, read_only=True) as lake:
        assert lake.sql("select count(*), count(mean), count(median) from features").fetchone()[1:] == (runs.counts.records // 500 * 200, 0)
        ((digest,),) = lake.sql("select sha256 from payloads").fetchall()
    assert len(digest) == 64
    assert digest != bench_pipeline.hashlib.sha256((runs.source / "ETCH01" / "0000.hsms").read_bytes()).hexdigest()
