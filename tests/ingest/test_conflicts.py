"""Conflicts: every content of a key is kept once, however many there are and however they are delivered again."""

import pytest

import loadlock
from sample_data import secs_encoder as secs


def record(*items):
    return secs.s6f1(secs.item("U1", 7), secs.item("U4", 1), "2026032908300000", list(items))


TEXTS = [record(secs.text(word), secs.item("F4", 1.0)) for word in ("aa", "bb", "cc")]
VALUES = [record(secs.item("F8", value)) for value in (0.0, -0.0, 2.0)] + [record(secs.item("F8"))]


@pytest.mark.parametrize("contents", [TEXTS, VALUES], ids=["texts", "values"])
def test_every_content_of_a_key_is_kept_once(tmp_path, contents):
    with loadlock.open(tmp_path / "t.lake") as lake:
        first = lake.ingest(data=b"".join(contents), tool="T")
        assert (first.records["accepted"], first.records["conflict"]) == (1, len(contents) - 1)
        digest = lake.digest()
        for content in reversed(contents):
            again = lake.ingest(data=content + secs.control("Linktest.req"), tool="T")
            assert again.records["duplicate"] == 1
        assert lake.digest() == digest
        assert lake.verify().faults == []


def test_which_content_came_first_does_not_matter(tmp_path):
    digests = []
    for name, order in (("a", TEXTS), ("b", TEXTS[::-1])):
        with loadlock.open(tmp_path / f"{name}.lake") as lake:
            for content in order:
                lake.ingest(data=content, tool="T")
            digests.append(lake.digest())
    assert digests[0] == digests[1]
