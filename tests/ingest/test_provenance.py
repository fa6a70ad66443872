"""From a sample back to its bytes, and the delivered bytes that a lake keeps."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loadlock
from ingest.sml import hex_dump, message
from kernels.reference.encode import frame, listed
from sample_data.secs_encoder import item as secs
from sample_data.secs_encoder import s6f1, text
from storage.zstd import zstd

KEEPING = "keep_payloads = true"


def capture(numbers: range, level: float = 1.0) -> bytes:
    """Trace messages of two sensors, one every 0.1 s."""
    return b"".join(
        s6f1(
            secs("U1", 7),
            secs("U4", n),
            f"20260317000{n // 600:01d}{n // 10 % 60:02d}{n % 10}0",
            [secs("F4", level * n), secs("I2", n)],
            system=n,
        )
        for n in numbers
    )


@pytest.fixture
def site(tmp_path: Path, polisher: Callable[..., Any]) -> Any:
    site = polisher(tmp_path)
    site.lake = tmp_path / "fab.lake"
    (tmp_path / "ETCH01").mkdir()
    return site


def deliver(site: Any, name: str, data: bytes) -> Path:
    path: Path = site.folder / "ETCH01" / name
    path.write_bytes(data)
    return path


def trace(command: Callable[..., Any], site: Any, *more: object, tool: str = "ETCH01", name: str = "7", seq: int = 5) -> Any:
    return command("audit", "trace", "--tool", tool, "--trace", name, "--seq", seq, "--lake", site.lake, *more)


def test_a_sample_is_traced_to_payload_span_entry_and_message(site: Any, loadlock_command: Callable[..., Any]) -> None:
    data = capture(range(1, 20))
    file = deliver(site, "a.hsms", data)
    with loadlock.open(site.lake) as lake:
        receipt = lake.ingest(file, config=site.config).receipts[0]
    [record] = trace(loadlock_command, site, "--json").json["records"]
    own = len(capture(range(1, 5)))
    assert (record["outcome"], record["byte_start"], record["byte_stop"]) == ("kept", own, own + len(capture(range(5, 6))))
    assert bytes.fromhex(record["hex"]) == data[own : record["byte_stop"]]
    assert [sample["value"] for sample in record["samples"]] == [5.0, 5.0]
    assert (record["payload"]["sha256"], record["payload"]["payload_id"]) == (receipt.sha256, receipt.payload_id)
    assert record["ledger"]["seq"] == receipt.ledger_seq
    assert record["ledger"]["software"] == loadlock.__version__
    assert len(record["ledger"]["config_digest"]) == 64
    assert record["message"].splitlines()[0].startswith("S6F1")
    assert "<F4 [1] 5.0>" in record["message"]
    shown = trace(loadlock_command, site).out
    assert "<U4 [1] 5>" in shown
    assert data[own : own + 8].hex(" ") in shown


def test_all_matches_are_shown_conflicts_too(site: Any, loadlock_command: Callable[..., Any]) -> None:
    files = [deliver(site, "a.hsms", capture(range(1, 9))), deliver(site, "b.hsms", capture(range(4, 12), level=2.0))]
    with loadlock.open(site.lake) as lake:
        for file in files:
            lake.ingest(file, config=site.config)
    found = trace(loadlock_command, site, "--json").json["records"]
    assert [(record["outcome"], record["samples"][0]["value"]) for record in found] == [("kept", 5.0), ("conflict", 10.0)]
    assert [record["bytes_from"] for record in found] == [str(file) for file in files]
    assert len(trace(loadlock_command, site, "--json", "--at", "2026-03-17T00:00:00.5").json["records"]) == 2
    assert trace(loadlock_command, site, "--json", "--at", "2026-03-17T00:00:00.6").json["records"] == []
    assert trace(loadlock_command, site, "--json", "--chamber", "B").json["records"] == []
    assert trace(loadlock_command, site, "--at", "yesterday").code == 2


def test_a_changed_file_is_not_believed_and_another_may_be_named(site: Any, loadlock_command: Callable[..., Any]) -> None:
    file = deliver(site, "a.hsms", capture(range(1, 9)))
    with loadlock.open(site.lake) as lake:
        lake.ingest(file, config=site.config)
    moved = site.folder / "archive.bin"
    shutil.copy(file, moved)
    file.write_bytes(capture(range(1, 10)))
    [record] = trace(loadlock_command, site, "--json").json["records"]
    assert "message" not in record
    assert "not at hand" in trace(loadlock_command, site).out
    [record] = trace(loadlock_command, site, "--json", "--payload", moved).json["records"]
    assert "<F4 [1] 5.0>" in record["message"]
    assert trace(loadlock_command, site, "--payload", file).code == 2


def test_a_compressed_payload_is_read_through(site: Any, loadlock_command: Callable[..., Any]) -> None:
    file = deliver(site, "a.hsms.zst", zstd.compress(capture(range(1, 9))))
    with loadlock.open(site.lake) as lake:
        lake.ingest(file, config=site.config)
    [record] = trace(loadlock_command, site, "--json").json["records"]
    assert bytes.fromhex(record["hex"]) == capture(range(5, 6))


def test_a_table_shows_its_line(site: Any, loadlock_command: Callable[..., Any]) -> None:
    file = site.wafers("1.csv", [1])
    with loadlock.open(site.lake) as lake:
        lake.ingest(file, config=site.config)
        seq = lake.sql("select seq from traces order by seq limit 1 offset 6").fetchall()[0][0]
    [record] = trace(loadlock_command, site, "--json", tool="P1", name="polish", seq=seq).json["records"]
    assert record["message"] == site.rows([1])[3]
    assert file.read_bytes()[record["byte_start"] : record["byte_stop"]].decode() == record["message"] + "\n"


def test_sml_writes_every_format() -> None:
    body = listed(
        secs("U4", 1, 2),
        secs("I8", -3),
        secs("F8", 0.1),
        secs("B", 0, 255),
        secs("BOOLEAN", 1, 0),
        text('a"b\n'),
        text("ﾃ", "J"),
        text(""),
        listed(),
    )
    lines = message(frame(6, 11, body)).splitlines()
    assert lines[0].startswith("S6F11")
    assert [line.strip() for line in lines[1:]] == [
        "<L [9]",
        "<U4 [2] 1 2>",
        "<I8 [1] -3>",
        "<F8 [1] 0.1>",
        "<B [2] 0x00 0xFF>",
        "<BOOLEAN [2] T F>",
        '<A [4] "a" 0x22 "b" 0x0A>',
        '<J [1] "ﾃ">',
        "<A [0]>",
        "<L [0]>",
        ">",
        ".",
    ]
    assert hex_dump(b"0123456789abcdef\0", 32)[1] == f"        48  {'00':47}  ."


# --- kept payloads


def keeping(site: Any) -> None:
    site.config.write_text(site.config.read_text() + KEEPING + "\n")


def test_delivered_bytes_are_kept_proven_and_traced(site: Any, loadlock_command: Callable[..., Any]) -> None:
    keeping(site)
    data = capture(range(1, 9))
    file = deliver(site, "a.hsms", data)
    with loadlock.open(site.lake) as lake:
        receipt = lake.ingest(file, config=site.config).receipts[0]
        assert lake.ingest(file).payloads["replayed"] == 1
        lake.ingest(data=capture(range(20, 25)), tool="ETCH01", format="hsms")
        assert lake.verify().faults == []
        assert lake.verify().orphans == []
    kept = site.lake / "payloads" / f"{receipt.sha256}.zst"
    assert len(list(kept.parent.iterdir())) == 2
    with zstd.ZstdFile(kept) as packed:
        assert packed.read() == data
    file.unlink()
    [record] = trace(loadlock_command, site, "--json").json["records"]
    assert record["bytes_from"] == str(kept)
    assert bytes.fromhex(record["hex"]) == capture(range(5, 6))


@pytest.mark.parametrize("harm", ["flip", "missing"])
def test_a_damaged_kept_payload_is_found(site: Any, harm: str, loadlock_command: Callable[..., Any]) -> None:
    keeping(site)
    with loadlock.open(site.lake) as lake:
        receipt = lake.ingest(deliver(site, "a.hsms", capture(range(1, 9))), config=site.config).receipts[0]
    kept = site.lake / "payloads" / f"{receipt.sha256}.zst"
    data = bytearray(kept.read_bytes())
    data[9] ^= 1
    kept.unlink()
    if harm == "flip":
        kept.write_bytes(data)
    answer = loadlock_command("audit", "verify", "--lake", site.lake, "--json")
    assert answer.code == 6
    assert [damage["payloads"] for damage in answer.json["damaged"]] == [[receipt.payload_id]]
    assert loadlock_command("audit", "verify", "--quick", "--lake", site.lake).code == (6 if harm == "missing" else 0)


def test_what_was_kept_for_a_commit_that_failed_is_an_orphan(site: Any) -> None:
    keeping(site)

    def fail(step: str) -> None:
        if step == "lock_held":
            raise KeyboardInterrupt

    file = deliver(site, "a.hsms", capture(range(1, 9)))
    with loadlock.open(site.lake) as lake:
        lake.ingest(file, config=site.config, dry_run=True)
        assert not (site.lake / "payloads").exists()
    with loadlock.open(site.lake) as lake:
        lake._settings(site.config)
        lake.store.on_step = fail
        with pytest.raises(KeyboardInterrupt):
            lake.ingest(file)
        lake.store.on_step = lambda _step: None
        report = lake.verify()
        assert report.faults == []
        assert [path for path in report.orphans if path.startswith("payloads/")]
        assert lake.ingest(file).payloads["committed"] == 1
        assert not [path for path in lake.verify().orphans if path.startswith("payloads/")]


def test_a_backup_holds_kept_payloads(site: Any, loadlock_command: Callable[..., Any]) -> None:
    keeping(site)
    with loadlock.open(site.lake) as lake:
        lake.ingest(deliver(site, "a.hsms", capture(range(1, 9))), config=site.config)
    backup, restored = site.folder / "backup", site.folder / "restored.lake"
    assert loadlock_command("backup", backup, "--data", "--lake", site.lake).code == 0
    shutil.rmtree(site.lake)
    assert loadlock_command("restore", backup, "--lake", restored).code == 0
    assert loadlock_command("audit", "verify", "--lake", restored).code == 0
    assert len(list((restored / "payloads").iterdir())) == 1
