"""The sample data are what their generator writes, small, complete in their traps, and their manifest agrees with itself."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # sample_data is no installed package
    sys.path.insert(0, str(ROOT))

from sample_data import etch01, etch02, polisher  # noqa: E402
from sample_data.expected import Outcome, Payload  # noqa: E402
from sample_data.secs_encoder import FORMAT_CODES, STRUCT_CHARS, control, frame, item, items, localized, s6f1, s6f11, text  # noqa: E402

SAMPLE = ROOT / "sample_data"
SIZE_MAX = 3_000_000
HEADER_BYTES = 14

Message = tuple[int, int, int, bytes, bytes]
"""Stream, function, SType, system bytes, body."""


def read(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def messages(data: bytes, at: int = 0) -> Iterator[Message]:
    """Walk the frames of a capture from ``at``, torn tail left out."""
    while at + 4 <= len(data):
        stop = at + 4 + int.from_bytes(data[at : at + 4], "big")
        if stop > len(data):
            return
        yield data[at + 6] & 0x7F, data[at + 7], data[at + 9], data[at + 10 : at + 14], data[at + HEADER_BYTES : stop]
        at = stop


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((SAMPLE / "manifest.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def capture() -> dict[str, bytes]:
    return {path.relative_to(SAMPLE / "deliveries").as_posix(): read(path) for path in (SAMPLE / "deliveries").rglob("*.*")}


@pytest.fixture(scope="module")
def payloads() -> list[Payload]:
    return sorted([*etch01.payloads(), *etch02.payloads(), *polisher.payloads()], key=lambda payload: payload.file)


def test_the_generator_writes_the_committed_files(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(SAMPLE / "generate.py"), str(tmp_path)], check=True)
    written = {path.relative_to(tmp_path).as_posix(): read(path) for path in tmp_path.rglob("*") if path.is_file()}
    committed = [*(SAMPLE / "deliveries").rglob("*.*"), SAMPLE / "loadlock.toml", SAMPLE / "manifest.json"]
    assert written == {path.relative_to(SAMPLE).as_posix(): read(path) for path in committed}


def test_the_sample_is_small() -> None:
    files = [path for path in SAMPLE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < SIZE_MAX


def test_frames_tile_every_payload(payloads: list[Payload], capture: dict[str, bytes]) -> None:
    assert {payload.file: payload.data() for payload in payloads} == capture


def test_every_account_balances(manifest: dict[str, Any]) -> None:
    for account in (manifest["total"], *manifest["tools"].values(), *manifest["payloads"]):
        bytes_, records = account["bytes"], account["records"]
        assert bytes_["in"] == sum(bytes_[place] for place in ("accepted", "duplicate", "conflict", "quarantined", "other"))
        assert records["decoded"] == records["accepted"] + records["duplicate"] + records["conflict"]
    for part in ("tools", "payloads"):
        rows = manifest[part].values() if part == "tools" else manifest[part]
        for section in ("bytes", "records", "frames"):
            assert sum((Counter(row[section]) for row in rows), Counter()) == +Counter(manifest["total"][section])


def test_spans_lie_in_their_files(manifest: dict[str, Any], capture: dict[str, bytes]) -> None:
    for span in manifest["quarantine"]:
        assert 0 <= span["start"] < span["stop"] <= len(capture[span["file"]])
    quarantined = sum(span["stop"] - span["start"] for span in manifest["quarantine"])
    assert quarantined == manifest["total"]["bytes"]["quarantined"]


def test_order_of_arrival_changes_only_which_conflict_is_kept(payloads: list[Payload]) -> None:
    forward, backward = Outcome(), Outcome()
    for payload in payloads:
        forward.take(payload)
    for payload in reversed(payloads):
        backward.take(payload)
    assert forward.windows() == backward.windows()
    assert forward.gaps() == backward.gaps()
    assert forward.kept.keys() == backward.kept.keys()
    differing = {key for key, record in forward.kept.items() if record != backward.kept[key]}
    assert differing == forward.conflicts.keys()


def test_resent_messages_come_under_new_system_bytes(capture: dict[str, bytes]) -> None:
    sent = [message for number in ("0001.hsms", "0002.hsms.gz", "0004.hsms") for message in messages(capture[f"ETCH01/{number}"])]
    earlier = {body: system for stream, _, _, system, body in sent if stream == 6}
    again = [(body, system) for s, f, _, system, body in messages(capture["ETCH01/0006.hsms"]) if (s, f) in ((6, 1), (6, 11))]
    resent = [(body, system) for body, system in again if body in earlier]
    assert len(resent) == len(etch01.RESENT)
    assert all(earlier[body] != system for body, system in resent)


def test_captures_overlap_with_equal_system_bytes(capture: dict[str, bytes]) -> None:
    last, first = list(messages(capture["ETCH01/0001.hsms"])), list(messages(capture["ETCH01/0002.hsms.gz"]))
    assert last[-etch01.OVERLAP_FRAMES :] == first[: etch01.OVERLAP_FRAMES]
    assert (5, 1) in {message[:2] for message in first[: etch01.OVERLAP_FRAMES]}


def test_there_are_conflicts_duplicates_and_gaps_in_every_form(manifest: dict[str, Any]) -> None:
    tools = manifest["tools"]
    assert {tool: row["records"]["conflict"] for tool, row in tools.items()} == {"CMP1": 1, "ETCH01": 1, "ETCH02": 0}
    assert tools["ETCH01"]["records"]["duplicate"] == len(etch01.RESENT) + etch01.OVERLAP_FRAMES + 1
    assert tools["ETCH02"]["records"]["duplicate"] == len(etch02.RESENT) * etch02.TRACE.group
    assert tools["CMP1"]["records"]["duplicate"] == 3 * polisher.OVERLAP_ROWS - 1
    assert sorted(gap["missing"] for gap in manifest["gaps"]) == [1, 1, 1, 3, 5, 5]


def test_a_trace_starts_again(payloads: list[Payload]) -> None:
    seqs = [(record.time_us, record.seq) for p in payloads for f in p.frames for record in f.records if record.stream.trace == "8"]
    starts = sorted(time_us for time_us, seq in seqs if seq == 1)
    assert len(starts) == 2
    assert starts[0] < starts[1]


def test_payloads_are_out_of_order(payloads: list[Payload]) -> None:
    for tool in ("ETCH01", "CMP1"):
        firsts = [next(record.time_us for frame in p.frames for record in frame.records) for p in payloads if p.tool == tool]
        assert firsts != sorted(firsts)


def test_damage_is_there(manifest: dict[str, Any], capture: dict[str, bytes]) -> None:
    spans = {(span["file"], span["reason_class"]): capture[span["file"]][span["start"] : span["stop"]] for span in manifest["quarantine"]}
    assert len(spans) == 5
    torn, head = spans["ETCH02/0001.hsms", "incomplete_tail"], spans["ETCH02/0002.hsms", "malformed"]
    assert len(list(messages(torn + head))) == 1
    assert capture["ETCH02/0001.hsms"].endswith(torn)
    assert capture["ETCH01/0005.hsms"].endswith(spans["ETCH01/0005.hsms", "incomplete_tail"])
    assert bytes([FORMAT_CODES["F4"] << 2 | 1, 3]) in spans["ETCH01/0003.hsms", "malformed"]
    assert spans["polisher/trace_20260317_b.csv", "malformed"] == polisher.BAD_LINE.encode() + b"\n"


def test_control_frames_replies_dictionary_alarms_and_an_unknown_event_are_there(capture: dict[str, bytes]) -> None:
    heads = {"ETCH02/0002.hsms": 192}
    captures = [name for name in sorted(capture) if name.startswith("ETCH")]
    seen = [message for name in captures for message in messages(capture[name], heads.get(name, 0))]
    assert {stype for _, _, stype, _, _ in seen} == {0, 1, 2, 5, 6, 9}
    functions = {(stream, function) for stream, function, stype, _, _ in seen if stype == 0}
    assert {(1, 12), (2, 23), (2, 33), (2, 35), (5, 1), (6, 1), (6, 2), (6, 11), (6, 12)} <= functions
    assert any(item("U2", 4711) in body for s, f, _, _, body in seen if (s, f) == (6, 11))


def test_windows_span_payloads_and_end_in_every_way(manifest: dict[str, Any], payloads: list[Payload]) -> None:
    windows = manifest["windows"]
    assert {(w["complete"], w["ended_at"] is None) for w in windows} == {(True, False), (False, False), (False, True)}
    assert max(w["occurrence"] for w in windows) == 2
    outcome = Outcome()
    for payload in payloads:
        outcome.take(payload)
    window = next(w for w in outcome.windows() if (w["wafer"], w["step"]) == ("W03", "main"))
    (members,) = outcome.members(window).values()
    homes = {p.file for p in payloads for f in p.frames for record in f.records if record in members}
    assert len(homes) > 1


def test_the_encoder_writes_the_worked_bytes() -> None:
    values = [item("F4", 1.5), item("F4", -2.25), item("U4", 9)]
    trace = "01046501076501034110323032363131323331343335303030300103" + "91043fc000009104c0100000b10400000009"
    assert s6f1(item("I1", 7), item("I1", 3), "2026112314350000", values)[HEADER_BYTES:].hex() == trace
    event = s6f11(1337, [(1000, [text("LOT42"), item("F4", 50.5), item("BOOLEAN", True)])], dataid=1)
    assert event[HEADER_BYTES:].hex() == "0103b10400000001a90205390101" + "0102a90203e801034105" + b"LOT42".hex() + "9104424a0000250101"
    assert control("Linktest.req", system=123).hex() == "0000000affff000000050000007b"
    assert items(localized("é"), text("A", length_bytes=2)).hex() == "01024904" + "0002c3a9" + "42000141"


@pytest.mark.parametrize("name", STRUCT_CHARS)
def test_the_encoder_writes_arrays_of_every_number_format(name: str) -> None:
    one, zero = item(name, 1)[2:], item(name, 0)[2:]
    assert item(name, 1, 0, 1) == bytes([FORMAT_CODES[name] << 2 | 1, 3 * len(one)]) + one + zero + one
    assert item(name, length_bytes=3) == bytes([FORMAT_CODES[name] << 2 | 3, 0, 0, 0])
    with pytest.raises(ValueError, match="length bytes"):
        item(name, *[0] * 300, length_bytes=1)


def test_a_frame_counts_header_and_body() -> None:
    assert frame(item("U1", 1), 6, 1, system=5, session=2, wait=True).hex() == "0000000d0002860100000000" + "0005a50101"
