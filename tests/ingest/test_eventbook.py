"""Events are kept once, by (tool, CEID, time, body); without a time by body and system bytes."""

import hashlib

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.eventbook import Arrived, EventBook, digests
from ingest.records import NO_TIME, Context, EventKind, Events
from storage.index import Facts

KINDS = [EventKind("a", 1), EventKind("b", 2, "start", "A", Context("lot")), EventKind("c", None)]
EVENT = st.tuples(st.integers(0, 2), st.sampled_from([NO_TIME, 5, 6]), st.sampled_from([b"", b"x", b"yy"]), st.integers(0, 1))


class EmptyStore:
    """A store that holds no event yet; hashes by a database of its own."""

    def __init__(self):
        import duckdb

        self.connection = duckdb.connect()
        self.index = self

    def facts(self, tool):
        return Facts()

    def tool_revision(self, tool):
        return 0


def arrived(rows):
    kind, time_us, body, system = zip(*rows, strict=True)
    at = np.arange(len(rows))
    times = np.asarray(time_us, np.int64)
    columns = pa.array(at), times, times, pa.array(["{}"] * len(rows)), pa.array(body, pa.binary()), np.asarray(system, np.int64), at
    return Arrived(Events("T", list(KINDS), np.asarray(kind, np.int32), *columns), "p", at)


@settings(deadline=None)
@given(st.lists(st.lists(EVENT, min_size=1, max_size=6), min_size=1, max_size=4), st.integers(0, 4))
def test_the_first_of_each_identity_is_new(stretches, cut):
    book, seen, wanted = EventBook(EmptyStore()), set(), []
    for kind, time_us, body, system in (row for rows in stretches for row in rows):
        identity = (body, system) if time_us == NO_TIME else (KINDS[kind].ceid, time_us, body)
        wanted.append(identity not in seen)
        seen.add(identity)
    fresh, context = [], []
    for some in (stretches[:cut], stretches[cut:]):
        if some:
            masks, _, bearing, _ = book.take("T", [arrived(rows) for rows in some])
            fresh += np.concatenate(masks).tolist()
            context += bearing
    assert fresh == wanted
    table = book.table()
    assert table.num_rows == sum(wanted)
    starts = [(e.time_us, e.digest) for e in context]
    assert starts == [
        (time.value // 1000, digest)
        for time, digest, role in zip(table["ts"].to_pandas(), table["body_digest"].to_pylist(), table["role"].to_pylist(), strict=True)
        if role and time.value > 0
    ]


def test_digests_are_of_the_bodies_in_their_order():
    bodies = [b"%d" % (i % 70_000) for i in range(150_000)]
    found = digests([pa.array(bodies[:10]), pa.array(bodies[10:])])
    assert found.to_pylist() == [hashlib.sha256(body).hexdigest() for body in bodies]
