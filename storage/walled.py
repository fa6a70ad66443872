"""Damaged data files: how one leaves the catalog though it can't be read, and what is missing since, as the ledger tells it.

DuckLake reads a file's footer before it lets go of the file. So a stand-in with as many rows and as long a footer takes its place for the
length of a commit; what was there is put aside in ``LAKE/walled`` and never touched again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from storage.damage import Damage, Lineage, damage_of
from storage.errors import IntegrityError
from storage.filecheck import MAGIC, TAIL_BYTES, FileCheck, Recorded
from storage.files import fsync_folder, write_durably
from storage.ledger import Entry, bodies
from storage.points import reached
from storage.schema import arrow_schema
from storage.store import Store
from storage.telling import Tell, nobody

FOLDER = "walled"
STAND_IN = "loadlock stand-in"
TRIES = 8

DELIVERED = ("traces", "conflicts", "texts", "events", "quarantine_log")
"""Tables whose rows come from payloads, and can be decoded again."""

DERIVED = ("windows_log", "features_log", "gaps_log", "superseded", "streams_log")
"""Tables whose rows follow from others, or are known to the working index."""

_COUNTED = {"traces": "samples", "events": "events"}
"""Tables of which the accounts say how many rows each payload has."""

_FOOTERS = "SELECT path, footer_size FROM __ducklake_metadata_lake.ducklake_data_file WHERE end_snapshot IS NULL"


@dataclass(slots=True, frozen=True)
class Broken:
    """A damaged file that a snapshot names; ``current``: the newest does."""

    recorded: Recorded
    damage: Damage
    footer_bytes: int
    current: bool

    @property
    def mendable(self) -> bool:
        """Tell whether its rows can be had from elsewhere than a backup."""
        return self.recorded.entry is not None and self.recorded.table in (*DELIVERED, *DERIVED)

    @property
    def delivered(self) -> bool:
        """Tell whether its rows come from payloads."""
        return self.recorded.table in DELIVERED


def broken_files(store: Store, listed: Sequence[Entry], files: Sequence[tuple[Recorded, bool]], tell: Tell = nobody) -> list[Broken]:
    """Return the damaged ones among ``files`` that were not walled off before; reads every byte of them."""
    check, lineage, found = FileCheck(), Lineage(listed), []
    known = {one.damage.path for one in walled_files(listed)}
    footers = {Path(path).name: int(size or 0) for path, size in store.rows(_FOOTERS)}
    for number, (recorded, current) in enumerate(files):
        tell("files proven", number, len(files))
        if not current and recorded.path in known:
            continue
        fault = check.fault(store.path / recorded.path, recorded, quick=False)
        if fault:
            footer = footers.get(Path(recorded.path).name, 0)
            found.append(Broken(recorded, damage_of(store, lineage, recorded, fault), footer, current))
    return found


# --- out of the catalog


@contextmanager
def stood_in(store: Store, broken: Sequence[Broken]) -> Iterator[None]:
    """Let stand-ins take the place of damaged files while the block commits their removal; on an error they come back."""
    done: list[tuple[Path, Path | None]] = []
    try:
        for one in broken:
            path = store.path / one.recorded.path
            done.append((path, put_aside(store, path)))
            write_durably(path, _stand_in(one))
        yield
    except BaseException:
        for path, aside in done:
            path.unlink(missing_ok=True)
            if aside is not None:
                os.rename(aside, path)
        reached("damage_put_back")
        raise
    for path, _ in done:
        path.unlink(missing_ok=True)
    reached("stand_ins_gone")
    for folder in {path.parent for path, _ in done}:
        fsync_folder(folder)


def clear(store: Store, listed: Sequence[Entry], current: Set[str]) -> None:
    """Put aside what is left of files that were walled off and are not ``current``: old snapshots must not read it either."""
    for path in {one.damage.path for one in walled_files(listed)} - current:
        put_aside(store, store.path / path)


def put_aside(store: Store, path: Path) -> Path | None:
    """Move what is at ``path`` to ``LAKE/walled``, return where it is now; a stand-in is just removed."""
    if not path.exists():
        return None
    if _is_stand_in(path):
        path.unlink()
        return None
    aside = store.path / FOLDER / path.parent.name / path.name
    aside.parent.mkdir(parents=True, exist_ok=True)
    os.rename(path, aside)
    reached("damage_put_aside")
    fsync_folder(aside.parent)
    fsync_folder(path.parent)
    return aside


def _is_stand_in(path: Path) -> bool:
    try:
        return any(STAND_IN.encode() in key for key in pq.read_metadata(path).metadata or ())
    except (pa.ArrowException, OSError):
        return False


def _stand_in(one: Broken) -> bytes:
    """Return a file with as many rows and as long a footer as the catalog has for the damaged one, and no page that can be read.

    DuckLake looks at the footer alone; a reader who comes upon it in the meantime must get an error and no rows.
    """
    names = arrow_schema(one.recorded.table).names
    for count in range(len(names), 0, -1):  # with all columns, if the footer has room for them
        table = pa.table({name: pa.nulls(one.recorded.rows) for name in names[:count]})
        for key in (STAND_IN, STAND_IN + "."):  # a length of 128 takes one byte more to say than 127: another name makes up for it
            data = _with_footer(table, key, one.footer_bytes)
            if data is not None:
                return data
    raise IntegrityError(f"{one.recorded.path}: the catalog has no sound length for its footer ({one.footer_bytes}); restore a backup")


def _with_footer(table: pa.Table, key: str, size: int) -> bytes | None:
    """Return a Parquet file of ``table`` with a footer of ``size`` bytes and zeros for pages, None where that can't be."""
    pad = 1
    for _ in range(TRIES):
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, table.schema, store_schema=False, write_statistics=False) as writer:
            writer.write_table(table, row_group_size=max(1, table.num_rows))
            writer.add_key_value_metadata({key: "." * pad})
        data = bytearray(sink.getvalue().to_pybytes())
        found = int.from_bytes(data[-8:-4], "little")
        if found == size:
            pages = slice(len(MAGIC), len(data) - found - TAIL_BYTES)
            data[pages] = bytes(len(data[pages]))
            return bytes(data)
        pad += size - found
        if pad < 0:
            break
    return None


# --- what is missing


@dataclass(slots=True, frozen=True)
class Walled:
    """A file that was walled off by ledger entry ``seq``; ``lost``: the payloads whose rows of it are not back.

    Nothing is lost with a file of a log that was written anew, nor with one that old snapshots alone name.
    """

    seq: int
    damage: Damage
    lost: list[str]

    def text(self) -> str:
        """Say what is missing, in one line."""
        one = self.damage
        return (
            f"{one.path}: walled off by ledger entry {self.seq} ({one.fault}); of its {one.rows} rows of {one.table} those of payloads "
            f"{', '.join(self.lost)} are missing (tools {', '.join(one.tools)}; wafers {', '.join(one.wafers) or 'none known'})"
        )

    def document(self) -> dict[str, object]:
        """Return it as JSON."""
        return self.damage.document() | {"walled_off_by": self.seq, "missing_payloads": self.lost}


def walled_files(listed: Sequence[Entry]) -> list[Walled]:
    """Return every file that was walled off."""
    walled: list[tuple[int, Damage]] = []
    history: list[Walled] = []
    back: dict[str, int] = {}
    for seq, body in bodies(listed):
        walled += [(seq, Damage(**one)) for one in body.get("walled", ())]
        history += [Walled(seq, Damage(**one), []) for one in body.get("walled_history", ())]
        back |= dict.fromkeys([*body.get("restored", ()), *body.get("withdrawn", ())], seq)
    return history + [
        Walled(seq, damage, [] if damage.table in DERIVED else [name for name in damage.payloads if back.get(name, 0) <= seq])
        for seq, damage in walled
    ]


def repairs(store: Store) -> list[Entry]:
    """Return the ledger entries that tell what was walled off, and what came back or was given up."""
    columns = "seq, recorded_at, actor, action, batch_id, body, prev_hash, hash"
    rows = store.rows(f"SELECT {columns} FROM lake.main.ledger WHERE action IN ('repair', 'retract', 'reprocess', 'purge') ORDER BY seq")
    return [Entry(*row) for row in rows]


def missing_files(store: Store, listed: Sequence[Entry]) -> list[Walled]:
    """Return the walled-off files of which rows are missing still.

    The ledger may name more payloads than had rows in a file: one whose account holds what is stored misses nothing.
    """
    found = [one for one in walled_files(listed) if one.lost]
    short = {table: shortfalls(store, table) for table in {one.damage.table for one in found} & _COUNTED.keys()}
    exact = [Walled(one.seq, one.damage, _within(one.lost, short.get(one.damage.table))) for one in found]
    return [one for one in exact if one.lost]


def _within(names: list[str], some: Mapping[str, tuple[int, int]] | None) -> list[str]:
    return names if some is None else [name for name in names if name in some]


def shortfalls(store: Store, table: str) -> dict[str, tuple[int, int]]:
    """Return payload -> (rows of ``table`` stored, rows booked) where the two differ."""
    rows = store.rows(
        f"SELECT payload_id, coalesce(n, 0), coalesce({_COUNTED[table]}, 0) FROM (SELECT payload_id, {_COUNTED[table]} "
        "FROM lake.main.payloads WHERE state = 'committed') p "
        f"FULL JOIN (SELECT payload_id, count(*) AS n FROM lake.main.{table} GROUP BY payload_id) s USING (payload_id) "
        f"WHERE coalesce(n, 0) <> coalesce({_COUNTED[table]}, 0) ORDER BY payload_id"
    )
    return {str(name): (int(stored), int(booked)) for name, stored, booked in rows}
