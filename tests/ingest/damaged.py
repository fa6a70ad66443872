"""What tests of repair share: a lake of several deliveries, harm to its files, and all that analysts see of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import loadlock
from tests.ingest.test_retract import CONFIG, PIECES

HARMS = ("missing", "flipped", "truncated")
SMALL = ("first", "second", "conflicting", "conflicting again", "rubbish within", "wafers", "a wafer's end", "other values")


class Site:
    """Deliveries in a folder, and the lake that they went to."""

    def __init__(self, folder: Path, config: str = CONFIG) -> None:
        self.folder, self.lake = folder, folder / "fab.lake"
        self.config = folder / "fab.toml"
        self.config.write_text(config)
        self.files: dict[str, Path] = {}
        for number, (name, (place, data)) in enumerate(PIECES.items()):
            (folder / place).mkdir(exist_ok=True)
            self.files[name] = folder / place / f"{number}.{'csv' if place == 'cmp' else 'hsms'}"
            self.files[name].write_bytes(data)

    def deliver(self, names: Iterable[str] = PIECES, *, together: bool = False) -> Site:
        """Deliver pieces one by one, or in one commit."""
        with loadlock.open(self.lake) as lake:
            for some in [[self.files[name] for name in names]] if together else [[self.files[name]] for name in names]:
                assert {receipt.state for receipt in lake.ingest(some, config=self.config).receipts} == {"committed"}
        return self

    def data(self, table: str = "*") -> list[Path]:
        """The data files that the newest snapshot names."""
        with loadlock.open(self.lake, read_only=True) as lake:
            live = lake.sql("select path from __ducklake_metadata_lake.ducklake_data_file where end_snapshot is null").fetchall()
        names = {Path(row[0]).name for row in live}
        return [path for path in sorted((self.lake / "data" / "main").glob(f"{table}/*.parquet")) if path.name in names]

    def payload_ids(self) -> dict[str, str]:
        with loadlock.open(self.lake, read_only=True) as lake:
            found = dict(lake.sql("select source, payload_id from payloads").fetchall())
        return {name: found[str(path)] for name, path in self.files.items() if str(path) in found}


def harm(path: Path, how: str) -> None:
    """Damage a file, always in the same place."""
    data = bytearray(path.read_bytes())
    path.unlink()
    if how != "missing":
        data[len(data) // 2] ^= 4
        path.write_bytes(data[: len(data) // 2] if how == "truncated" else data)


def state(path: Path) -> tuple[Any, ...]:
    """What analysts see: digest, accounts, texts and conflicts with their payloads, quarantine, windows."""
    with loadlock.open(path, read_only=True) as lake:
        rows = [
            lake.sql(query).fetchall()
            for query in (
                "select payload_id, state, samples, events, bytes_in, records_accepted from payloads order by all",
                "select payload_id, count(*), count(distinct byte_start), count(distinct window_id) from traces group by all order by all",
                "select payload_id, seq, position, text from texts order by all",
                "select payload_id, kept_payload_id, seq, ts, position, value, text, content from conflicts order by all",
                "select payload_id, event, ts, byte_start from events order by all",
                "select quarantine_id, state, octet_length(bytes) from quarantine order by all",
                "select window_id, started_at, ended_at from windows order by all",
                "select tool, trace, position, sensor from sensors order by all",
            )
        ]
        return (lake.digest(), rows)


def sound(lake: Path) -> None:
    with loadlock.open(lake, read_only=True) as opened:
        report = opened.verify(every_feature=True)
    assert (report.faults, report.missing, report.owed) == ([], [], 0)


def copy_of(site: Site, folder: Path) -> Path:
    return Path(shutil.copytree(site.lake, folder / "fab.lake"))
