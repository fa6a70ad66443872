"""Files of our own page writer: pyarrow's file of the same pieces is the judge, DuckDB and polars agree, and a strict walk fits."""

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.missing import NULL
from kernels.pages import byte_streams
from storage import files, pages, valuepages
from storage.files import Stager, encode, sha256_of, value_encoding
from storage.pieces import Piece, SharedColumns, tables, traces_schema
from storage.schema import COLUMNS
from storage.tracepages import encode_traces
from storage.zstd import zstd
from tests.storage.parquet_judge import read, same_to_duckdb_and_polars, same_to_pyarrow
from tests.storage.parquet_walk import DICTIONARY, walk

GROUP_ROWS = 400
NAMES = list(COLUMNS["traces"])
INT64 = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(0, 1000), st.sampled_from([-(2**63), 2**63 - 1]))
TIMES = st.integers(-(2**60), 2**60)
TEXT = st.one_of(st.sampled_from(["", "A", "größe", "温度", "\U0001f600", "x" * 4096, "y" * 5000]), st.text("ab\0é", max_size=3))
ODD = [0.0, -0.0, float("nan"), float("inf"), -float("inf"), 5e-324, 1.5, 0.1, float(NULL)]


def as_double(bits):
    return np.asarray(bits, np.int64).view(np.float64)


@st.composite
def value_blocks(draw, k, n, nullable):
    kind = draw(st.sampled_from(["odd", "bits", "float32", "steps", "decimals", "counts"]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    if kind == "odd":
        out = np.asarray(ODD)[random.integers(0, len(ODD), (k, n))]
    elif kind == "bits":
        out = random.integers(-(2**63), 2**63 - 1, (k, n)).view(np.float64)
    elif kind == "float32":
        out = random.standard_normal((k, n)).astype(np.float32).astype(np.float64)
    elif kind == "steps":
        out = random.integers(0, 3, (k, n)) * 0.3
    elif kind == "counts":
        out = np.round(9_000 + random.standard_normal((k, n)) * 60)
    else:
        out = np.round(random.uniform(0, 20, (k, n)), 1)
    if not nullable:
        out = np.where(out.view(np.int64) == NULL.view(np.int64), 0.0, out)
    return out


@st.composite
def piece_lists(draw):
    """Pieces as the ingest cuts them, and the columns that hold nulls."""
    optional = draw(st.sets(st.sampled_from(["chamber", "window_id", "value"])))
    out = []
    for _ in range(draw(st.integers(1, 4))):
        n = draw(st.sampled_from([1, 2, 7, 8, 33, 130, 300]))
        sensors = draw(st.integers(1, min(40, 3 * GROUP_ROWS // n)))
        random = np.random.default_rng(draw(st.integers(0, 2**32)))
        streams = tuple(draw(st.lists(TEXT, min_size=1, max_size=3, unique=True)))
        payloads = tuple(draw(st.lists(TEXT, min_size=1, max_size=4, unique=True)))
        first, step = draw(INT64), draw(st.sampled_from([1, 100_000, -3]))
        steady = draw(st.booleans()) and abs(first) < 2**62
        seq = first + np.arange(n) * step if steady else np.asarray(draw(st.lists(INT64, min_size=n, max_size=n)))
        shared = SharedColumns(
            tool=draw(TEXT),
            chamber=draw(st.one_of(st.none(), TEXT)) if "chamber" in optional else draw(TEXT),
            trace=draw(TEXT),
            streams=streams,
            stream=random.integers(0, len(streams), n).astype(np.int32),
            payloads=payloads,
            payload=np.sort(random.integers(0, len(payloads), n)).astype(np.int32),
            seq=seq.astype(np.int64),
            ts=draw(TIMES) + np.cumsum(random.integers(0, 1 << draw(st.integers(1, 40)), n)),
            window_id=np.sort(random.integers(0 if "window_id" in optional else 1, 4, n)) * draw(st.sampled_from([1, 10**15])),
            byte_start=np.asarray(draw(INT64)) * np.ones(n, np.int64),
        )
        names = [f"{draw(TEXT)}{i}" for i in range(sensors)]
        values = draw(value_blocks(sensors, n, "value" in optional))
        together = max(1, GROUP_ROWS // n)
        for j in range(0, sensors, together):
            part = values[j : j + together]
            out.append(Piece(shared, names[j : j + together], np.arange(j + 1, j + 1 + len(part), dtype=np.int32), part))
    return out, optional


def ours(pieces, optional, rows=GROUP_ROWS, *, thorough=False):
    file = encode_traces(pieces, level=1, row_group_rows=rows, optional=optional, thorough=thorough)
    data = b"".join(file.parts)
    assert (len(data), file.rows) == (file.size, sum(piece.rows for piece in pieces))
    return data


def judged(pieces, optional, rows=GROUP_ROWS):
    schema = traces_schema(optional)
    value = value_encoding(np.concatenate([piece.values.ravel() for piece in pieces]))
    buffer, _ = encode(tables(pieces, schema), schema, "traces", value=value, level=1, row_group_rows=rows)
    return buffer.to_pybytes()


@given(piece_lists(), st.booleans())
@settings(max_examples=120, deadline=None)
def test_pyarrow_reads_what_its_own_file_holds(drawn, thorough):
    same_to_pyarrow(ours(*drawn, thorough=thorough), judged(*drawn), NAMES)


@given(drawn=piece_lists(), thorough=st.booleans())
@settings(max_examples=40, deadline=None)
def test_duckdb_and_polars_read_what_pyarrows_file_holds(tmp_path_factory, drawn, thorough):
    folder = tmp_path_factory.mktemp("pages")
    same_to_duckdb_and_polars(folder, ours(*drawn, thorough=thorough), judged(*drawn), "value > 0.2 AND position = 1")


def long_piece(values):
    k, n = values.shape
    shared = SharedColumns(
        tool="T",
        chamber="A",
        trace="7",
        streams=("7",),
        stream=np.zeros(n, np.int32),
        payloads=("p",),
        payload=np.zeros(n, np.int32),
        seq=np.arange(n),
        ts=np.arange(n) * 100_000,
        window_id=np.ones(n, np.int64),
        byte_start=np.arange(n) * 878,
    )
    return Piece(shared, [f"s{i}" for i in range(k)], np.arange(1, k + 1, dtype=np.int32), values)


def mixed_values(n):
    """A sensor for each encoding, and a second one for the dictionary behind another encoding."""
    random = np.random.default_rng(1)
    noise = random.standard_normal(n).astype(np.float32).astype(np.float64)
    repeats = random.standard_normal(n)[np.arange(n) // 4 + random.integers(0, 100, n)]
    return np.stack([random.integers(0, 90, n) * 0.1, noise, random.integers(0, 300, n) * 0.7, repeats])


def test_each_sensor_takes_the_encoding_that_suits_it(tmp_path):
    piece = long_piece(mixed_values(20_000))
    data = ours([piece], set(), 100_000)
    value = walk(data)[0][NAMES.index("value")]
    assert value[0][0].kind == DICTIONARY
    kinds = [pages.RLE_DICTIONARY, pages.BYTE_STREAM_SPLIT, pages.RLE_DICTIONARY, pages.PLAIN]
    assert [page.encoding for page, _ in value[1:]] == kinds
    path = tmp_path / "mixed.parquet"
    path.write_bytes(data)
    expected = piece.values.ravel()
    assert np.array_equal(np.asarray(read(data).read().column("value")), expected)
    assert np.array_equal(pl.read_parquet(path)["value"].to_numpy(), expected)
    assert np.array_equal(duckdb.sql(f"SELECT value FROM '{path}'").fetchnumpy()["value"], expected)
    over = duckdb.sql(f"SELECT count(*), min(value) FROM '{path}' WHERE value > 5").fetchone()
    assert over == (int((expected > 5).sum()), float(expected[expected > 5].min()))


def test_a_dictionary_that_stores_more_than_the_bytes_themselves_is_given_up(tmp_path):
    random = np.random.default_rng(3)
    wander = 9_000.0 + np.round(random.standard_normal(20_000) * 60)  # some 400 values in one byte plane or two, and no order among them
    few = random.choice(wander[:20], 20_000)
    piece = long_piece(np.stack([wander, few, wander[::-1].copy(), random.integers(0, 300, 20_000) * 0.7]))
    data = ours([piece], set(), 100_000)
    kinds = [pages.BYTE_STREAM_SPLIT, pages.RLE_DICTIONARY, pages.BYTE_STREAM_SPLIT, pages.RLE_DICTIONARY]
    assert [page.encoding for page, _ in walk(data)[0][NAMES.index("value")][1:]] == kinds
    assert np.array_equal(np.asarray(read(data).read().column("value")), piece.values.ravel())


def test_small_sensors_share_pages():
    data = ours([long_piece(np.random.default_rng(2).standard_normal((300, 100)))], set(), 100_000)
    for name, most in (("seq", 30_000), ("value", valuepages.PAGE_ROWS // 100 * 100)):
        counts = [page.values for page, _ in walk(data)[0][NAMES.index(name)]]
        assert sum(counts) == 30_000
        assert len(counts) == -(-30_000 // most)


def test_sensors_with_many_records_share_no_page():
    data = ours([long_piece(np.random.default_rng(2).standard_normal((4, valuepages.ALONE_ROWS)))], set(), 100_000)
    assert [page.values for page, _ in walk(data)[0][NAMES.index("value")]] == [valuepages.ALONE_ROWS] * 4


def blocks_of(frame):
    """Return the number of blocks of a zstd frame (RFC 8878)."""
    flags = frame[4]
    single = flags >> 5 & 1
    at = 5 + (1 - single) + (0, 1, 2, 4)[flags & 3] + ((1 if single else 0), 2, 4, 8)[flags >> 6]
    count, last = 0, 0
    while not last:
        head = int.from_bytes(frame[at : at + 3], "little")
        last, kind, size = head & 1, head >> 1 & 3, head >> 3
        at += 3 + (1 if kind == 1 else size)  # a run stores one byte
        count += 1
    assert at == len(frame)
    return count


@pytest.mark.parametrize("n", [100, 1_024, 20_971, 131_072])
@pytest.mark.parametrize("front", [b"", b"levels"])
@pytest.mark.parametrize("thorough", [False, True])
def test_each_byte_stream_has_a_block_of_its_own(n, front, thorough):
    """zstd is asked for it by a number without a name: were it to mean another thing some day, this fails."""
    streams = byte_streams(np.random.default_rng(4).standard_normal(n).view(np.uint64))
    page = pages.Compressor(1, thorough=thorough).streams(front, streams, values=n)
    assert zstd.decompress(page.data[1]) == front + streams.tobytes()
    assert blocks_of(page.data[1]) in (8 + bool(front), 9 + bool(front))  # an empty one may close a frame


def counts_piece(sensors, n):
    """Counts that wander by a little: byte planes of two values, in which a match seldom pays."""
    random = np.random.default_rng(5)
    return long_piece(np.round(20_000 + random.standard_normal((sensors, n)) * 300))


def test_small_files_are_compressed_thoroughly(tmp_path, monkeypatch):
    piece = counts_piece(4, 8_000)
    sizes = []
    for most in (piece.rows, piece.rows - 1):
        monkeypatch.setattr(files, "THOROUGH_ROWS", most)
        stager = Stager(tmp_path, lambda most=most: f"{most}", level=1, row_group_rows=100_000)
        (tmp_path / "main" / "traces").mkdir(parents=True, exist_ok=True)
        sizes.append(stager.write_traces([piece], set(), piece.values).size)
        stager.release()
    quick, thorough = (len(ours([piece], set(), 100_000, thorough=thorough)) for thorough in (False, True))
    assert sizes == [thorough, quick]
    assert thorough < 0.97 * quick


def test_a_level_that_is_thorough_itself_is_taken_as_it_is():
    piece = counts_piece(4, 8_000)
    sizes = [encode_traces([piece], level=19, row_group_rows=100_000, optional=set(), thorough=thorough).size for thorough in (False, True)]
    assert sizes[0] == sizes[1]


def irregular_piece(sensors, n):
    """A piece whose records come at random times, from random streams and payloads, some in no window."""
    random = np.random.default_rng(3)
    shared = SharedColumns(
        tool="T",
        chamber=None,
        trace="7",
        streams=tuple(f"key {i}" for i in range(300)),
        stream=random.integers(0, 300, n).astype(np.int32),
        payloads=("p", "q", "r"),
        payload=random.integers(0, 3, n).astype(np.int32),
        seq=np.sort(random.integers(0, 1 << 50, n)),
        ts=np.sort(random.integers(0, 1 << 50, n)),
        window_id=random.integers(0, 90, n),
        byte_start=random.integers(0, 1 << 40, n),
    )
    return Piece(shared, [f"s{i:02}" for i in range(sensors)], np.arange(1, sensors + 1, dtype=np.int32), np.zeros((sensors, n)))


def test_what_irregular_records_share_is_stored_once(tmp_path):
    optional = {"chamber", "window_id"}
    one, many = irregular_piece(1, 5000), irregular_piece(20, 5000)
    data = ours([many], optional, 200_000)
    shared = ("seq", "ts", "byte_start", "window_id", "stream", "payload_id")
    sizes = [read(ours([piece], optional, 200_000)).metadata.row_group(0) for piece in (one, many)]
    for name in shared:
        alone, together = (group.column(NAMES.index(name)).total_compressed_size for group in sizes)
        assert together < 1.2 * alone + 200, name
    assert read(data).read().equals(read(judged([many], optional, 200_000)).read())
    paths = [tmp_path / "ours.parquet", tmp_path / "theirs.parquet"]
    for path, bytes_ in zip(paths, (data, judged([many], optional, 200_000)), strict=True):
        path.write_bytes(bytes_)
    assert pl.read_parquet(paths[0]).equals(pl.read_parquet(paths[1]))
    first, second = (f"SELECT * FROM '{path}'" for path in paths)
    assert duckdb.sql(f"({first} EXCEPT ALL {second}) UNION ALL ({second} EXCEPT ALL {first})").fetchall() == []


def test_a_file_without_rows_is_a_file():
    assert read(ours([], set())).read().num_rows == 0


def test_a_damaged_page_is_detected():
    data = bytearray(ours([long_piece(mixed_values(5000))], set(), 100_000))
    page = walk(data)[0][NAMES.index("value")][-1][0]
    data[page.at + 500] ^= 1
    with pytest.raises(OSError, match="CRC"):
        read(bytes(data)).read()


@pytest.mark.parametrize("writer", ["pages", "pyarrow"])
def test_either_writer_stages_the_same_rows(tmp_path, writer):
    piece = long_piece(mixed_values(3000))
    stager = Stager(tmp_path, lambda: "file", level=1, row_group_rows=6000, writer=writer)
    halves = [Piece(piece.shared, piece.names[j : j + 2], piece.positions[j : j + 2], piece.values[j : j + 2]) for j in (0, 2)]
    staged = stager.write_traces(iter(halves), set(), piece.values)
    stager.release()
    assert (staged.rows, staged.size, staged.sha256) == (12_000, staged.path.stat().st_size, sha256_of(staged.path))
    file = pq.ParquetFile(staged.path)
    assert file.metadata.num_row_groups == 2
    assert np.array_equal(np.asarray(file.read().column("value")), piece.values.ravel())
    assert ("loadlock" in file.metadata.created_by) == (writer == "pages")
