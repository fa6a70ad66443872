"""One bit flipped on disk, at random: in a data file of any kept snapshot, in kept payloads, the mirror, a proof, the catalog."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import loadlock
from storage import checkpoint, signing
from storage.errors import LoadlockError
from storage.verify import entries
from tests.faults.soak import new_seed, scaled

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, polisher: Run, assert_conserved: Run) -> Any:
    """A lake that keeps payloads, with files that only an older snapshot names, and a signed checkpoint."""
    folder = tmp_path_factory.mktemp("bits")
    site = polisher(folder)
    site.config.write_text(site.config.read_text(encoding="utf-8") + "keep_payloads = true\n", encoding="utf-8")
    site.lake = folder / "fab.lake"
    files = [
        site.wafers("1.csv", [1, 2]),
        site.wafers("2.csv", [3], tool="P2"),
        site.file("3.csv", [*site.rows([4, 5]), "P1,A,nonsense,W7,ramp,1,2"]),
    ]
    signing.write_private(folder / "me.pem")
    with loadlock.open(site.lake) as lake:
        for file in files:
            assert_conserved(lake.ingest(file, config=site.config), lake)
        lake.compact(everything=True)
        lake.ingest(site.wafers("4.csv", [6]), config=site.config)
        site.proof = folder / "checkpoint.json"
        signing.write_json(site.proof, checkpoint.make(list(entries(lake.store)), folder / "me.pem", lake.store.clock()))
    return site


@contextmanager
def flipped(path: Path, at: int, bit: int) -> Iterator[None]:
    """Hold one bit of a file flipped."""
    sound = path.read_bytes()
    path.write_bytes(sound[:at] + bytes([sound[at] ^ 1 << bit]) + sound[at + 1 :])
    try:
        yield
    finally:
        path.write_bytes(sound)


@dataclass(frozen=True)
class Flip:
    """A bit of a file of the lake, or of the proof."""

    kind: str
    path: Path
    at: int
    bit: int


def found(lake: Any, proof: Path) -> bool:
    """Tell whether ``audit verify --checkpoint`` has something to say."""
    try:
        return bool(lake.verify().faults) or forged(lake, proof)
    except LoadlockError as error:
        return error.exit_code == 6


def forged(lake: Any, proof: Path) -> bool:
    """Tell whether the checkpoint is refused, or does not fit."""
    try:
        return bool(checkpoint.check(checkpoint.read(proof), list(entries(lake.store))))
    except LoadlockError as error:
        return error.exit_code in (2, 6)


def named(lake: Any, flips: Sequence[Flip]) -> list[Flip]:
    """Return those of several flipped bits whose files are each named as damaged, all bits being flipped at once."""
    try:
        faults = lake.verify().faults
        proof = forged(lake, next(flip.path for flip in flips if flip.kind == "proof"))
    except LoadlockError:  # the ledger can't be read: nothing is said of the rest
        return []
    root = lake.store.path
    words = {flip: "mirror" if flip.kind == "mirror" else f"{flip.path.relative_to(root)}:" for flip in flips if flip.kind != "proof"}
    told = [fault for fault in faults if "can't be held against" not in fault]
    return [flip for flip in flips if (proof if flip.kind == "proof" else any(fault.startswith(words[flip]) for fault in told))]


ROUND = ("data", "data", "data", "payloads", "mirror", "proof")
"""So many bits are flipped at a time, no two in one file: each must be told apart from the others, or be found alone."""


def flip_bits(site: Any, count: int, seed: int) -> Counter[str]:
    """Flip ``count`` bits and find each; return how many there were of each kind."""
    dice = random.Random(seed)
    places = {
        "data": sorted((site.lake / "data" / "main").rglob("*.parquet")),
        "payloads": sorted((site.lake / "payloads").glob("*.zst")),
        "mirror": sorted(path for path in (site.lake / "mirror").iterdir() if path.stat().st_size),
        "proof": [site.proof],
    }
    tried: Counter[str] = Counter()
    with loadlock.open(site.lake, read_only=True) as lake:
        listed = {name for (name,) in lake.store.rows("SELECT path FROM __ducklake_metadata_lake.ducklake_data_file")}
        old = [path for path in places["data"] if path.name in {Path(name).name for name in listed}]
        assert len(old) == len(places["data"]) > len(lake.store.rows(CURRENT))
        assert not found(lake, site.proof)
        while tried.total() - tried["told only alone"] < count:
            paths = dice.sample(places["data"], 3) + [dice.choice(places[kind]) for kind in ROUND[3:]]
            flips = [
                Flip(kind, path, dice.randrange(path.stat().st_size), dice.randrange(8)) for kind, path in zip(ROUND, paths, strict=True)
            ]
            with ExitStack() as stack:
                for flip in flips:
                    stack.enter_context(flipped(flip.path, flip.at, flip.bit))
                seen = named(lake, flips)
            for flip in flips:
                if flip not in seen:
                    tried["told only alone"] += 1
                    with flipped(flip.path, flip.at, flip.bit):
                        assert found(lake, site.proof), (seed, flip)
                tried[flip.kind] += 1
        assert not found(lake, site.proof)
    return tried


CURRENT = "SELECT path FROM __ducklake_metadata_lake.ducklake_data_file WHERE end_snapshot IS NULL"


def test_a_hundred_bits(site: Any, note: Run) -> None:
    seed = new_seed()
    note(seed=seed, **flip_bits(site, 100, seed))


@pytest.mark.slow
def test_five_hundred_bits(site: Any, note: Run) -> None:
    seed = new_seed()
    note(seed=seed, **flip_bits(site, scaled(500), seed))


@contextmanager
def rewritten(lake_path: Path, path: Path, table: pa.Table) -> Iterator[None]:
    """Hold a data file replaced by ``table``, with the catalog naming its size, so that DuckDB reads it."""
    sound = path.read_bytes()

    def put(content: bytes) -> None:
        path.write_bytes(content)
        sizes = (len(content), int.from_bytes(content[-8:-4], "little"), path.name)
        with closing(sqlite3.connect(lake_path / "catalog.sqlite")) as catalog, catalog:
            catalog.execute("UPDATE ducklake_data_file SET file_size_bytes = ?, footer_size = ? WHERE path LIKE '%' || ?", sizes)

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    put(sink.getvalue().to_pybytes())
    try:
        yield
    finally:
        put(sound)


def test_columns_whose_values_are_gone(site: Any, tmp_path: Path) -> None:
    """Flipped bits can make nulls where there are none: whatever is read from damaged files, each is named and ends no proof."""
    lake_path = tmp_path / "fab.lake"
    shutil.copytree(site.lake, lake_path)
    tables = sorted(path for path in (lake_path / "data" / "main").iterdir() if path.name != "ledger")
    paths = [max(table.rglob("*.parquet"), key=lambda path: path.stat().st_mtime_ns) for table in tables]
    contents = {path: pq.ParquetFile(path).read() for path in paths}
    for number in range(max(content.num_columns for content in contents.values())):
        with ExitStack() as stack:
            damaged = [path for path, content in contents.items() if number < content.num_columns]
            for path in damaged:
                stack.enter_context(rewritten(lake_path, path, without(contents[path], number)))
            named_files = {fault.split(":")[0] for fault in verified(lake_path)}
            assert {path.relative_to(lake_path).as_posix() for path in damaged} <= named_files


def test_a_ledger_that_lost_a_column(site: Any, tmp_path: Path) -> None:
    lake_path = tmp_path / "fab.lake"
    shutil.copytree(site.lake, lake_path)
    path = next((lake_path / "data" / "main" / "ledger").rglob("*.parquet"))
    content = pq.ParquetFile(path).read()
    for number in range(content.num_columns):
        with rewritten(lake_path, path, without(content, number)), pytest.raises(LoadlockError, match="has lost a part of itself"):
            verified(lake_path)


def verified(lake_path: Path) -> list[str]:
    """Return the faults that ``audit verify`` finds."""
    with loadlock.open(lake_path, read_only=True) as lake:
        return lake.verify().faults


def without(content: pa.Table, number: int) -> pa.Table:
    """Return ``content`` with nulls for all values of a column."""
    column = content.schema.field(number)
    return content.set_column(number, column.with_nullable(True), pa.nulls(len(content), column.type))


def catalog_bits(site: Any, folder: Path, count: int, seed: int) -> dict[str, int]:
    """Flip bits of a checkpointed catalog, one at a time in a copy of the lake; return how each was found, or was not."""
    shutil.copytree(site.lake, folder / "fab.lake")
    catalog = folder / "fab.lake" / "catalog.sqlite"
    with sqlite3.connect(catalog) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    size, dice, how = catalog.stat().st_size, random.Random(seed), Counter[str]()
    sound = catalog.read_bytes()
    for _ in range(count):
        with flipped(catalog, dice.randrange(size), dice.randrange(8)):
            how[_judged(folder / "fab.lake", catalog)] += 1
        for side in folder.glob("fab.lake/catalog.sqlite-*"):
            side.unlink()
        assert catalog.read_bytes() == sound
    return dict(how)


def _judged(lake_path: Path, catalog: Path) -> str:
    try:
        with loadlock.open(lake_path, read_only=True) as lake:
            if lake.verify().faults:
                return "verify"
    except Exception:  # whatever is raised was noticed; a crash of the process would end the test
        return "refused"
    database = sqlite3.connect(f"file:{catalog}?mode=ro&immutable=1", uri=True)
    try:
        sound = database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    except sqlite3.DatabaseError:
        sound = False
    finally:
        database.close()
    return "unnoticed" if sound else "integrity check"


def test_bits_in_the_catalog(site: Any, tmp_path: Path, note: Run) -> None:
    """What is not noticed lies where nothing is stored: unused room of pages, and statistics that no answer depends on."""
    seed = new_seed()
    how = catalog_bits(site, tmp_path, 15, seed)
    note(seed=seed, bits=15, **{name.replace(" ", "_"): count for name, count in how.items()})
    assert sum(how.values()) == 15


@pytest.mark.slow
def test_many_bits_in_the_catalog(site: Any, tmp_path: Path, note: Run) -> None:
    seed, count = new_seed(), scaled(100)
    note(seed=seed, bits=count, **{name.replace(" ", "_"): n for name, n in catalog_bits(site, tmp_path, count, seed).items()})
