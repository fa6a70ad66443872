"""Receipts read like receipts: what came in, what was kept, what was not and why, and the next useful command; tables in a notebook."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pyarrow as pa

import loadlock
from ingest.receipts import Receipt, Summary
from ingest.status import Status

Run = Callable[..., Any]


def advice(answer: Any) -> str:
    (line,) = [line for line in answer.out.splitlines() if line.startswith("next: ")]
    return str(line.removeprefix("next: "))


def test_what_was_not_kept_is_said_with_the_reason(copy: Any, loadlock_command: Run) -> None:
    copy.file("2.csv", [*copy.rows([4]), "P1,A,soon,W9,ramp,1,1", "P1,A", "P1,B"])
    answer = loadlock_command("ingest", copy.drop, "--lake", copy.lake)
    assert answer.code == 3
    assert "1 committed, 1 replayed" in answer.out
    assert "3 spans" in answer.out
    assert ": 2 bad_row, 1 bad_time" in answer.out
    assert advice(answer) == f"loadlock quarantine list --lake {copy.lake}"


def test_each_outcome_has_its_next_command(copy: Any, loadlock_command: Run) -> None:
    again = loadlock_command("ingest", copy.drop, "--lake", copy.lake)
    assert advice(again) == f"loadlock status --lake {copy.lake}"
    copy.file("2.csv", copy.rows([4]))
    trial = loadlock_command("ingest", copy.drop / "2.csv", "--lake", copy.lake, "--dry-run")
    assert advice(trial) == "the same command without --dry-run"
    taken = loadlock_command("ingest", copy.drop / "2.csv", "--lake", copy.lake, "--key", "K")
    assert "from traces" in advice(taken)
    copy.file("3.csv", copy.rows([5]))
    refused = loadlock_command("ingest", copy.drop / "3.csv", "--lake", copy.lake, "--key", "K")
    assert refused.code == 4
    assert "loadlock retract KEY" in advice(refused)
    conflict = loadlock_command("ingest", copy.file("4.csv", copy.rows([4], offset=0.5)), "--lake", copy.lake)
    assert "select * from conflicts" in advice(conflict)
    (copy.drop / "5.csv").write_text("TOOL,CHAMBER\nP1,A\nP1,B\n")
    deferred = loadlock_command("ingest", copy.drop / "5.csv", "--lake", copy.lake)
    assert "loadlock config check" in advice(deferred)


def test_hundreds_of_files_are_no_hundreds_of_lines(copy: Any, loadlock_command: Run) -> None:
    for i in range(300):
        (copy.drop / f"bad{i:03}.csv").write_text(f"TOOL,CHAMBER\nP1,{i}\nP1,B\n")
    for i in range(200):
        copy.file(f"good{i:03}.csv", copy.rows([10 + i])[:2])
    (copy.drop / "other.csv").write_text("TOOL,STEP\nP1,A\nP1,B\n")
    answer = loadlock_command("ingest", copy.drop, "--lake", copy.lake)
    assert (answer.code, answer.err) == (3, "")
    lines = answer.out.splitlines()
    assert lines[0] == "502 payloads: 200 committed, 1 replayed, 301 deferred"
    assert len(lines) < 16
    (head,) = [i for i, line in enumerate(lines) if line.startswith("  deferred 300 payloads: mapping: [tables.polish]")]
    assert lines[head + 1].endswith("bad002.csv and 297 more; --json names all")
    assert str(copy.drop / "other.csv") in answer.out
    document = loadlock_command("ingest", copy.drop, "--lake", copy.lake, "--json").json
    assert sum(receipt["state"] == "deferred" for receipt in document["receipts"]) == 301


class Tags(HTMLParser):
    """Checks that tags close in order, and collects them and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


PLAIN = {"table", "caption", "thead", "tbody", "tr", "th", "td", "p"}
NASTY = "<script>alert('x')</script>&amp;"


def test_a_notebook_shows_summary_receipt_and_status(copy: Any) -> None:
    copy.file("2.csv", [*copy.rows([4]), "P1,A,soon,W9,ramp,1,1"])
    with loadlock.open(copy.lake) as lake:
        summary = lake.ingest(copy.drop)
        status = lake.status()
    for item, words in (
        (summary, ("1 committed, 1 replayed", "quarantined: bad_time", "2.csv")),
        (summary.receipts[0], ("replayed", "records_accepted")),
        (status, ("traces", "P1", "quarantine, open")),
    ):
        tags = Tags(item._repr_html_())
        assert tags.seen <= PLAIN
        for word in words:
            assert word in tags.text


def test_html_escapes_whatever_came_in() -> None:
    receipt = Receipt(payload_id=None, key=NASTY, sha256="", source=NASTY, state="deferred", ledger_seq=None, reason=NASTY)
    summary = Summary()
    summary.book(receipt)
    summary.reasons[NASTY] = 1
    entry = {"seq": 1, "action": NASTY, "recorded_at": "", "batch_id": None}
    figures: dict[str, Any] = {"payloads": {"count": 0, "bytes": 0}, "quarantine": {"open": 0}, "sizes": {"bytes": 0}}
    rows = [{"tool": NASTY, NASTY: None}]
    status = Status(lake=NASTY, rows={NASTY: 1}, last_entry=entry, tools=rows, circuits=rows * 200, **figures)
    for item in (receipt, summary, status):
        tags = Tags(item._repr_html_())
        assert tags.seen <= PLAIN
        assert NASTY in tags.text
    assert "and 100 more" in status._repr_html_()


# --- results


QUERY = "select tool, ts, seq, value from traces order by ts, sensor"


def test_results_go_to_polars_arrow_and_pandas(copy: Any) -> None:
    import pandas as pd
    import polars as pl

    with loadlock.open(copy.lake, read_only=True) as lake:
        wanted = lake.sql(QUERY).fetchall()
        assert len(wanted) == 80
        table = lake.sql(QUERY).to_arrow_table()
        assert [tuple(row.values()) for row in table.to_pylist()] == wanted
        assert lake.sql(QUERY).pl().rows() == wanted
        assert lake.sql(QUERY).pl(lazy=True).collect().rows() == wanted
        assert lake.sql(QUERY).arrow().read_all() == table  # a stream of batches
        assert pa.RecordBatchReader.from_stream(lake.sql(QUERY)).read_all() == table  # whoever reads the Arrow stream interface
        frame = lake.sql(QUERY).df()
        assert isinstance(frame, pd.DataFrame)
        assert [(row.tool, row.ts.to_pydatetime(), row.seq, row.value) for row in frame.itertuples()] == wanted
        assert lake.sql("select count(*) from traces where tool = ?", ["P1"]).fetchall() == [(80,)]
        assert isinstance(pl.from_arrow(table), pl.DataFrame)


def test_numbers_reach_polars_and_arrow_without_a_copy(copy: Any) -> None:
    import pandas as pd
    import polars as pl

    with loadlock.open(copy.lake, read_only=True) as lake:
        table = lake.sql("select value from traces").to_arrow_table()
        (chunk,) = table["value"].chunks
        address = chunk.buffers()[1].address
        series = pl.from_arrow(table)["value"]
        assert series.to_arrow().buffers()[1].address == address
        kept = table.to_pandas(types_mapper=pd.ArrowDtype)["value"].array.__arrow_array__()
        assert kept.chunk(0).buffers()[1].address == address
