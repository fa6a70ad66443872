"""A refused delivery stands in the ledger, whatever else its call committed."""

import json

import loadlock
from ingest import pipeline
from ingest.config import Config
from ingest.intake import Settings
from ingest.sources import from_bytes
from sample_data import secs_encoder as secs


def capture(number):
    return secs.s6f1(secs.item("U1", 7), secs.item("U4", number), "2026032908300000", [secs.item("F4", 1.0)])


def test_a_refusal_beside_a_commit_is_in_its_ledger_entry(tmp_path):
    with loadlock.open(tmp_path / "t.lake") as lake:
        lake.ingest(data=capture(1), tool="T", key="K")
        settings = Settings(Config(), "tester", "test", iter(map(str, range(100))).__next__)
        found = [from_bytes(capture(n), Config(), tool="T", format="hsms", key=key, source=str(n)) for n, key in ((2, "K"), (3, None))]
        summary = pipeline.ingest(lake.store, found, settings)
        assert (summary.payloads["refused"], summary.payloads["committed"], summary.exit_code) == (1, 1, 4)
        (body,) = lake.sql("select body from ledger order by seq desc limit 1").fetchall()[0]
        assert [item["key"] for item in json.loads(body)["refused"]] == ["K"]


def test_a_refusal_alone_is_an_entry_of_its_own(tmp_path):
    with loadlock.open(tmp_path / "t.lake") as lake:
        lake.ingest(data=capture(1), tool="T", key="K")
        lake.ingest_all(data=capture(2), tool="T", key="K")
        assert lake.sql("select action from ledger order by seq").fetchall() == [("init",), ("ingest",), ("refuse",)]
        assert lake.verify().faults == []
