"""An independent encoder: what secsgem writes decodes to what was put in, and its own decoder agrees."""

from __future__ import annotations

import json
import math
import struct
import warnings
from typing import Any

import numpy as np
import pytest

from ingest.config import EventModel, Limits, Model
from ingest.dictionary import Dictionary
from ingest.formats.hsms import HsmsDecoder
from ingest.records import Decoded

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("secsgem.secs")
    from secsgem.hsms import HsmsMessage, HsmsStreamFunctionHeader
    from secsgem.secs import functions, variables

RNG = np.random.default_rng(7)
STIME = "2026112314350000"
T0 = 1_795_444_500_000_000


def framed(function: Any, system: int) -> bytes:
    header = HsmsStreamFunctionHeader(system, function.stream, function.function, False, 1)
    message = HsmsMessage(header, function.encode())
    return b"".join(block.encode() for block in message.blocks)


def decode(data: bytes, model: Model | None = None) -> list[Decoded]:
    decoder = HsmsDecoder("T", {}, model, Dictionary(), Limits())
    return [*decoder.feed(data), *decoder.finish()]


def f4(value: float) -> float:
    return float(struct.unpack(">f", struct.pack(">f", value))[0])


def test_traces_decode_to_what_was_put_in():
    kinds = [variables.F4, variables.F8, variables.U4, variables.I2, variables.U8, variables.Boolean, variables.I1]
    sent, data = [], b""
    for smpln in range(1, 30):
        values = []
        svs = []
        for i in range(int(RNG.integers(1, 40))):
            kind = kinds[int(RNG.integers(len(kinds)))] if smpln % 2 else variables.F4
            value: Any = (
                float(RNG.normal())
                if kind in (variables.F4, variables.F8)
                else bool(i % 2)
                if kind is variables.Boolean
                else int(RNG.integers(0, 100))
            )
            values.append(f4(value) if kind is variables.F4 else float(value))
            svs.append(kind(value))
        function = functions.SecsS06F01({"TRID": smpln % 3, "SMPLN": smpln, "STIME": STIME, "SV": svs})
        sent.append((str(smpln % 3), smpln, values))
        data += framed(function, smpln)
    (part,) = decode(data)
    r = part.records
    assert r is not None
    found = []
    for i in range(len(r.seq)):
        layout = r.layouts[r.layout[i]]
        found.append((r.streams[r.stream[i]].trace, int(r.seq[i]), r.values[r.value_start[i] : r.value_start[i] + len(layout)].tolist()))
    assert found == sent
    assert set(r.time_us.tolist()) == {T0}
    assert not part.rejected


def test_its_decoder_agrees_with_ours():
    values = [variables.F4(1.5), variables.F8(-2.25), variables.U4(9), variables.I8(-5), variables.Boolean(True)]
    function = functions.SecsS06F01({"TRID": 7, "SMPLN": 3, "STIME": STIME, "SV": values})
    theirs = functions.SecsS06F01()
    theirs.decode(function.encode())
    (part,) = decode(framed(function, 1))
    assert part.records is not None
    assert part.records.values.tolist() == [float(v[0] if isinstance(v, list) else v) for v in theirs.get()["SV"]]
    assert theirs.get()["SMPLN"] == part.records.seq[0]


def test_events_and_alarms():
    report = {"RPTID": 1000, "V": [variables.String(STIME), variables.String("LOT42"), variables.F4(50.5), variables.Boolean(True)]}
    data = framed(functions.SecsS06F11({"DATAID": 1, "CEID": 1337, "RPT": [report]}), 5)
    data += framed(functions.SecsS05F01({"ALCD": 0x81, "ALID": 100025, "ALTX": "text"}), 6)
    model = Model(events={"1337": EventModel(name="Start", values=("ts", "lot", "power"), window="start")})
    e = next(part.events for part in decode(data, model) if part.events is not None)
    assert [(e.kinds[i].event, e.kinds[i].ceid) for i in e.kind] == [("Start", 1337), ("alarm", None)]
    assert (e.dataid.to_pylist(), e.system.tolist()) == ([1, None], [5, 6])
    assert (int(e.time_us[0]), e.kinds[e.kind[0]].context.lot) == (T0, "LOT42")
    start, alarm = (json.loads(v) for v in e.vars.to_pylist())
    assert (start, alarm) == ({"power": 50.5, "value4": True}, {"ALCD": 0x81, "ALID": 100025, "ALTX": "text", "set": True})


def test_dictionary_messages():
    data = framed(functions.SecsS01F12([{"SVID": 1, "SVNAME": "temp", "UNITS": "C"}]), 1)
    data += framed(functions.SecsS02F33({"DATAID": 1, "DATA": [{"RPTID": 10, "VID": [1]}]}), 2)
    data += framed(functions.SecsS02F35({"DATAID": 1, "DATA": [{"CEID": 5, "RPTID": [10]}]}), 3)
    data += framed(functions.SecsS06F11({"DATAID": 1, "CEID": 5, "RPT": [{"RPTID": 10, "V": [variables.F8(math.e)]}]}), 4)
    parts = decode(data)
    (columns,) = [part.events for part in parts if part.events]
    assert columns.vars.to_pylist() == [f'{{"temp":{math.e!r}}}']
