"""The repeated local hour at the end of summer time: sequence numbers tell the two readings apart."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import loadlock
from ingest.config import parse
from sample_data import secs_encoder as secs

BERLIN = ZoneInfo("Europe/Berlin")
CONFIG = parse('[models.b]\ntimezone = "Europe/Berlin"\n[models.b.traces.7]\nperiod = 600.0\nsensors = ["x"]\n[tools.T]\nmodel = "b"\n')
START = datetime(2026, 10, 24, 23, 30)
TIMES = [START + timedelta(minutes=10 * i) for i in range(18)]


def frame(number, utc):
    local = utc.replace(tzinfo=ZoneInfo("UTC")).astimezone(BERLIN)
    return secs.s6f1(secs.item("U1", 7), secs.item("U4", number), local.strftime("%Y%m%d%H%M%S00"), [secs.item("F4", 1.0)])


FRAMES = [frame(i + 1, utc) for i, utc in enumerate(TIMES)]


def times(lake):
    return [row[0] for row in lake.sql("select ts from traces order by seq").fetchall()]


def test_both_readings_of_the_repeated_hour_are_told_apart_in_one_payload(tmp_path):
    with loadlock.open(tmp_path / "t.lake") as lake:
        summary = lake.ingest(data=b"".join(FRAMES), tool="T", config=CONFIG)
        assert times(lake) == TIMES
        assert lake.sql("select ambiguous_time from payloads").fetchall() == [(12,)]
        assert summary.gaps == 0


def test_a_payload_that_begins_inside_the_second_pass_looks_at_the_streams_history(tmp_path):
    with loadlock.open(tmp_path / "t.lake") as lake:
        for cut in (FRAMES[:12], FRAMES[12:]):
            lake.ingest(data=b"".join(cut), tool="T", config=CONFIG)
        assert times(lake) == TIMES
        assert lake.sql("select count(*) from gaps").fetchall() == [(0,)]


def test_a_missing_hour_is_read_with_the_offset_before_the_jump(tmp_path):
    message = secs.s6f1(secs.item("U1", 7), secs.item("U4", 1), "2026032902300000", [secs.item("F4", 1.0)])
    with loadlock.open(tmp_path / "t.lake") as lake:
        lake.ingest(data=message, tool="T", config=CONFIG)
        assert times(lake) == [datetime(2026, 3, 29, 1, 30)]
