"""Files of features by our own writer: pyarrow's file of the same rows is the judge, DuckDB and polars agree, and a strict walk fits."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.reduce import COLUMNS as STATISTICS
from storage import files
from storage.featurepages import FeaturePages
from storage.featurerows import REVISION, FeatureRows, table
from storage.files import SPLIT, Stager, encode
from storage.schema import COLUMNS, arrow_schema
from tests.storage.parquet_judge import bits, read, same_to_duckdb_and_polars, same_to_pyarrow
from tests.storage.test_pages import INT64, TEXT, TIMES

NAMES = list(COLUMNS["features_log"])
MAYBE = st.one_of(st.none(), TEXT)
ODD = [0.0, -0.0, float("nan"), float("inf"), -float("inf"), 5e-324, 1.5, 0.1]


@st.composite
def rows(draw, revised=False, sensors_max=30):
    """Rows of some windows; sensors of neighbours are often the same list."""
    count = draw(st.integers(1, 5))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))

    def each(values):
        return draw(st.lists(values, min_size=count, max_size=count))

    shared = {
        "window_id": each(INT64),
        "tool": each(TEXT),
        "chamber": each(MAYBE),
        "trace": each(TEXT),
        **{name: each(MAYBE) for name in ("lot", "wafer", "recipe", "step")},
        "occurrence": each(st.one_of(st.none(), st.integers(1, 3))),
        "started_at": each(TIMES),
        "ended_at": each(st.one_of(st.none(), TIMES)),
        "complete": each(st.booleans()),
    }
    if revised:
        shared[REVISION] = each(st.integers(1, 2**40))
    lists = [[f"{draw(TEXT)}{i}" for i in range(draw(st.integers(1, sensors_max)))] for _ in range(2)]
    sensors = [lists[i] for i in random.integers(0, 2, count)]
    positions = [list(range(1, len(names) + 1)) for names in sensors]
    n = sum(map(len, sensors))
    kind = draw(st.sampled_from(["odd", "bits", "reals"]))
    if kind == "odd":
        found = np.asarray(ODD)[random.integers(0, len(ODD), (n, len(STATISTICS)))]
    elif kind == "bits":
        found = random.integers(-(2**63), 2**63 - 1, (n, len(STATISTICS))).view(np.float64)
    else:
        found = random.standard_normal((n, len(STATISTICS)))
    found[:, :2] = random.integers(0, draw(st.sampled_from([2, 2**40])), (n, 2))
    return FeatureRows(shared, sensors, positions, found)


def ours(parts, revision):
    pages = FeaturePages(level=1)
    for part in parts:
        pages.add(part)
    file = pages.finish(revision)
    data = b"".join(file.parts)
    assert (len(data), file.rows) == (file.size, sum(len(part.statistics) for part in parts))
    return data


def judged(parts, revision):
    tables = (table(part, revision) for part in parts)
    buffer, _ = encode(tables, arrow_schema("features_log"), "features_log", value=SPLIT, level=1, row_group_rows=1)
    return buffer.to_pybytes()


DRAWN = st.one_of(
    st.tuples(st.lists(rows(), min_size=1, max_size=3), st.integers(1, 2**62)),
    st.tuples(st.lists(rows(revised=True), min_size=1, max_size=3), st.none()),
)


@given(DRAWN)
@settings(max_examples=100, deadline=None)
def test_pyarrow_reads_what_its_own_file_holds(drawn):
    mine = ours(*drawn)
    same_to_pyarrow(mine, judged(*drawn), NAMES)
    assert read(mine).metadata.num_row_groups == len(drawn[0])


@given(drawn=DRAWN)
@settings(max_examples=30, deadline=None)
def test_duckdb_and_polars_read_what_pyarrows_file_holds(tmp_path_factory, drawn):
    folder = tmp_path_factory.mktemp("features")
    same_to_duckdb_and_polars(folder, ours(*drawn), judged(*drawn), "complete AND position = 1")


def many(windows, sensors, counts=None):
    random = np.random.default_rng(6)
    n = windows * sensors
    names = [f"sensor_{i:03}" for i in range(sensors)]
    found = random.standard_normal((n, len(STATISTICS)))
    found[:, :2] = np.stack([np.full(n, 500) if counts is None else counts, np.zeros(n)], 1)
    shared = {
        name: [f"{name} {i // 25}" for i in range(windows)] for name in ("tool", "chamber", "trace", "lot", "wafer", "recipe", "step")
    }
    shared |= {"window_id": list(range(windows)), "occurrence": [1] * windows, "complete": [True] * windows}
    shared |= {"started_at": [i * 10**6 for i in range(windows)], "ended_at": [i * 10**6 + 1 for i in range(windows)]}
    return FeatureRows(shared, [names] * windows, [list(range(1, sensors + 1))] * windows, found)


def test_a_file_of_many_rows_is_not_larger_than_pyarrows():
    part = many(150, 200)
    mine, judge = ours([part], 7), judged([part], 7)
    assert bits(read(mine).read()).equals(bits(read(judge).read()))
    assert len(mine) < len(judge)


def test_counts_that_seldom_repeat_need_no_dictionary():
    part = many(10, 100, np.random.default_rng(1).integers(0, 2**50, 1000))
    assert read(ours([part], 7)).read().equals(read(judged([part], 7)).read())


@pytest.mark.parametrize("writer", ["pages", "pyarrow"])
def test_either_writer_stages_the_same_rows_with_a_revision_that_comes_last(tmp_path, writer):
    (tmp_path / "main" / "features_log").mkdir(parents=True)
    names = iter("ab")
    stager = Stager(tmp_path, lambda: next(names), level=1, row_group_rows=6000, writer=writer)
    part = many(3, 200)
    durable = stager.features(lambda: [part, part])
    assert stager.files == []
    for revision in (7, 8):
        staged = durable(revision)
        found = pq.read_table(staged.path)
        assert found.equals(pa.concat_tables([table(part, revision)] * 2))
        assert (staged.rows, staged.size, staged.sha256) == (1200, staged.path.stat().st_size, files.sha256_of(staged.path))
        assert pq.ParquetFile(staged.path).num_row_groups == 2
    stager.release()
