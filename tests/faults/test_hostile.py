"""Deliveries, names and folders as somebody with bad intentions would make them: nothing raises, nothing grows, nothing leaves the lake."""

from __future__ import annotations

import gzip
import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loadlock
from ingest.config import Limits, parse
from ingest.dictionary import Dictionary
from ingest.errors import ConfigError
from ingest.formats.hsms import HsmsDecoder
from sample_data import secs_encoder as secs
from storage.errors import LoadlockError
from storage.zstd import zstd

Run = Callable[..., Any]
SOUND = secs.s6f1(secs.item("U1", 7), secs.item("U4", 1), "2026031708000000", [secs.item("F4", 1.0)])
MEMORY_BYTES = 400 << 20
"""What a hostile delivery may add to the peak, whatever it claims to hold; an ordinary one of 64 MiB adds about 200 MB."""


def decoded(data: bytes, chunk: int = 1 << 16) -> list[Any]:
    decoder = HsmsDecoder("T", {}, None, Dictionary(), Limits())
    parts = [part for at in range(0, len(data), chunk) for part in decoder.feed(data[at : at + chunk])]
    return parts + list(decoder.finish())


def samples(parts: list[Any]) -> int:
    return sum(len(part.records.seq) for part in parts if part.records is not None)


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


HOSTILE = {
    "a length of 4 GiB": b"\xff\xff\xff\xff",
    "a length of 2 GiB and a sound header": b"\x7f\xff\xff\xff" + SOUND[4:],
    "no length at all": bytes(4),
    "a list of 16 million children": secs.frame(b"\x03\xff\xff\xff", 6, 11),
    "an array of 16 million bytes": secs.frame(b"\x23\xff\xff\xff", 6, 1),
    "lists within lists": secs.frame(b"\x01\x01" * 50_000 + b"\x01\x00", 6, 11),
    "lists within lists, two a level": secs.frame(b"\x01\x02" * 20_000, 6, 1),
    "an item that ends outside": secs.frame(b"\x01\x04\xb1\xff", 6, 1),
    "a million empty lists": secs.frame(b"\x03\x0f\x42\x40" + b"\x01\x00" * 1_000_000, 6, 11),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_lengths_and_depths(name: str) -> None:
    """Sound frames before and after come through; a long claim does not make the decoder wait for ever, or hoard."""
    before = peak_bytes()
    parts = decoded(SOUND + HOSTILE[name] + SOUND * 3)
    assert samples(parts) == 4
    assert peak_bytes() - before < MEMORY_BYTES


def test_hostile_lengths_over_and_over() -> None:
    """64 MiB that claim, every few bytes, to be frames of nearly the largest size."""
    before = peak_bytes()
    parts = decoded(b"\x00\xff\xff\xf0\x00\x01" * 2_000_000 + SOUND)
    assert samples(parts) == 1
    assert peak_bytes() - before < MEMORY_BYTES


def bomb(kind: str, content: bytes, times: int) -> bytes:
    """``content`` so often, compressed: a megabyte holds a thousand."""
    if kind == "gz":
        packer = gzip.zlib.compressobj(9, wbits=31)  # type: ignore[attr-defined]
        return b"".join([*(packer.compress(content) for _ in range(times)), packer.flush()])
    packer = zstd.ZstdCompressor(level=3)
    return b"".join([*(packer.compress(content) for _ in range(times)), packer.flush()])


BOMBS = [("gz", "hsms", b"\0"), ("zst", "table", b"\n"), ("gz", "table", b"a")]


@pytest.mark.parametrize(("kind", "format", "byte"), BOMBS)
def test_compression_bombs(kind: str, format: str, byte: bytes, polisher: Run, tmp_path: Path, assert_conserved: Run) -> None:
    """A small file that unpacks to 384 MiB: bounded memory, an answer, and the account of what was in it."""
    site = polisher(tmp_path)
    path = tmp_path / f"x.{kind}"
    path.write_bytes(bomb(kind, byte * (1 << 20), 384))
    assert path.stat().st_size < 1 << 20
    with loadlock.open(tmp_path / "fab.lake") as lake:
        lake.ingest(site.wafers("1.csv", [1]), config=site.config)
        before = peak_bytes()
        document = assert_conserved(lake.ingest_all(path, format=format, tool="P1"), lake)
        assert peak_bytes() - before < MEMORY_BYTES
        assert document["payloads"]["seen"] == 1


# --- names


NAMES = [
    "'; DROP TABLE traces; --",
    '"; DELETE FROM lake.main.ledger',
    "../../etc/passwd",
    "/abs",
    "a\nb",
    "Ätzer 1 %_",
    "x" * 300,
    "$1",
    "NaN",
]


def everything_outside(folder: Path, lake: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if not path.is_relative_to(lake)}


def test_sql_and_paths_in_every_name(tmp_path: Path, loadlock_command: Run, assert_conserved: Run) -> None:
    """Tools, chambers, wafers, streams, sensors, keys and sources are text and nothing else."""
    lake_path = tmp_path / "fab.lake"
    columns = json.dumps([f"S{i} {name}" for i, name in enumerate(NAMES)])
    config = tmp_path / "c.toml"
    config.write_text(
        '[[sources]]\nmatch = "*.csv"\nformat = "table"\ntable = "t\'; DROP TABLE x; --"\n'
        '[tables."t\'; DROP TABLE x; --"]\n'
        'tool = { column = "TOOL" }\nchamber = "CH"\ntime = { column = "T", unit = "s" }\n'
        'key = ["CH"]\ncontext = { wafer = "W", lot = "CH" }\n'
        f"sensors = {columns}\n",
        encoding="utf-8",
    )
    header = ["TOOL", "CH", "T", "W", *json.loads(columns)]
    rows = [[name, name, str(100 + i), name, *["1.5"] * len(NAMES)] for i, name in enumerate(NAMES)]
    quoted = "\n".join(",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in [header, *rows]) + "\n"
    data = tmp_path / "x'; DROP TABLE traces; --.csv"
    data.write_text(quoted, encoding="utf-8")
    with loadlock.open(lake_path) as lake:
        outside = everything_outside(tmp_path, lake_path)
        summary = lake.ingest(data, key="../k'; DROP TABLE payloads; --", config=config)
        assert assert_conserved(summary, lake)["samples"] == len(NAMES) ** 2
        for name in NAMES:
            assert lake.sql("select count(*) from samples where tool = ? and chamber = ? and wafer = ?", [name, name, name]).fetchall() == [
                (len(NAMES),)
            ]
        assert lake.sql("select count(distinct sensor) from traces").fetchall() == [(len(NAMES),)]
        again = lake.ingest_all(data, key="../k'; DROP TABLE payloads; --")
        assert again.payloads["replayed"] == 1
        late = lake.ingest(data=quoted.replace("1.5", "2.5").encode(), format="table")
        assert assert_conserved(late, lake)["records"]["conflict"] == len(NAMES)
        lake.compact(everything=True)
        assert lake.verify().faults == []
        assert everything_outside(tmp_path, lake_path) == outside
    for name in NAMES:
        assert loadlock_command("circuits", "reset", name, "--reason", name, "--lake", lake_path).code in (0, 2)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 100_000,
        "a." * 5_000 + "b = 1",
        "[tables.x]\ntool = { column = " + "{ a = " * 5_000,
        '[[sources]]\nmatch = "' + "*" * 20_000 + '"\nformat = "hsms"',
        '[[sources]]\nmatch = "' + "{tool}" * 200 + '"\nformat = "hsms"',
        "\0",
    ],
    ids=["brackets", "dots", "tables", "stars", "captures", "null"],
)
def test_a_hostile_configuration_is_refused_or_harmless(text: str, tmp_path: Path) -> None:
    try:
        config = parse(text)
    except ConfigError:
        return
    assert config.match(tmp_path / ("a" * 100) / "b.hsms") is None or text


# --- folders


@pytest.fixture
def watched_folder(polisher: Run, tmp_path: Path) -> Any:
    """A folder with one sound file, and with things that are no files."""
    site = polisher(tmp_path)
    site.wafers("sound.csv", [1])
    (site.drop / "dangling.csv").symlink_to(tmp_path / "nowhere")
    (site.drop / "loop.csv").symlink_to(site.drop / "loop.csv")
    (site.drop / "endless.csv").symlink_to("/dev/zero")
    os.mkfifo(site.drop / "pipe.csv")
    (site.drop / "round").symlink_to(site.drop, target_is_directory=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "linked.csv").write_text((site.drop / "sound.csv").read_text().replace("P1", "P2"))
    (site.drop / "linked.csv").symlink_to(tmp_path / "elsewhere" / "linked.csv")
    return site


def test_links_pipes_and_devices_in_a_folder(watched_folder: Any, tmp_path: Path, loadlock_command: Run, assert_conserved: Run) -> None:
    """A link to a file is that file; links that lead nowhere or round, pipes and devices are skipped, linked folders not entered."""
    answer = loadlock_command("ingest", watched_folder.drop, "--config", watched_folder.config, "--json", "--lake", tmp_path / "fab.lake")
    document = assert_conserved(answer.json)
    assert answer.code == 0
    assert (document["payloads"]["committed"], document["payloads"]["skipped"]) == (2, 4)
    named = loadlock_command("ingest", watched_folder.drop / "pipe.csv", "--json", "--lake", tmp_path / "fab.lake")
    assert (named.code, named.json["payloads"]["skipped"]) == (2, 1)


def test_a_file_that_goes_or_can_not_be_read_is_deferred_and_the_others_go_on(
    polisher: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, assert_conserved: Run
) -> None:
    from storage import points

    site = polisher(tmp_path)
    files = [site.wafers(f"{i}.csv", [i]) for i in range(3)]
    opened = []

    def bad_disk(name: str, _path: Path | None) -> None:
        if name == "payload_opening":
            opened.append(name)
        if name == "payload_read" and len(opened) == 2:
            raise OSError(5, "Input/output error")

    with loadlock.open(tmp_path / "fab.lake") as lake:
        with points.watched(bad_disk):
            summary = lake.ingest_all(files, config=site.config)
        document = assert_conserved(summary, lake)
        assert [receipt["state"] for receipt in document["receipts"]] == ["committed", "deferred", "committed"]
        assert "Input/output error" in document["receipts"][1]["reason"]
        assert summary.exit_code == 3
        assert assert_conserved(lake.ingest_all(files), lake)["payloads"]["committed"] == 1


def test_a_large_file_that_breaks_off_half_way_leaves_nothing(polisher: Run, tmp_path: Path, assert_conserved: Run) -> None:
    """Bytes were taken when the disk failed: the batch is decoded again without them."""
    from storage import points

    site = polisher(tmp_path)
    small, large = site.wafers("0.csv", [0]), site.wafers("1.csv", range(1, 40))
    site.config.write_text(site.config.read_text() + "batch_bytes = 2000\n")
    with loadlock.open(tmp_path / "fab.lake") as lake:
        lake.ingest(small, config=site.config)
        reads = []

        def bad_disk(name: str, _path: Path | None) -> None:
            reads.append(name)
            if name == "payload_read" and reads.count(name) == 2:
                raise OSError(5, "Input/output error")

        with points.watched(bad_disk):
            summary = lake.ingest_all(large)
        assert assert_conserved(summary, lake)["payloads"]["deferred"] == 1
        assert lake.sql("select count(*) from payloads").fetchall() == [(1,)]
        assert assert_conserved(lake.ingest_all(large), lake)["payloads"]["committed"] == 1


def test_a_lake_that_lost_its_marker_is_not_made_anew(polisher: Run, tmp_path: Path, loadlock_command: Run) -> None:
    site = polisher(tmp_path)
    lake_path = tmp_path / "fab.lake"
    with loadlock.open(lake_path) as lake:
        lake.ingest(site.wafers("1.csv", [1]), config=site.config)
        digest = lake.digest()
    marker = (lake_path / "lake.json").read_bytes()
    (lake_path / "lake.json").unlink()
    with pytest.raises(LoadlockError, match="no marker"):
        loadlock.open(lake_path)
    assert loadlock_command("init", "--lake", lake_path).code == 6
    (lake_path / "lake.json").write_bytes(marker)
    with loadlock.open(lake_path) as lake:
        assert lake.digest() == digest
