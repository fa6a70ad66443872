"""SECS-II values as JSON against Python's own writer."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from ingest.items import json_text, json_value, read
from kernels.json_text import ODD, PLACES, is_long, plain_decimal, put_item
from kernels.reference.encode import item, listed, raw_item, text

SOUND = [
    text(""),
    text('a"b\\c/\b\t\n\v\f\r\x00\x1f\x7f'),
    text("µm"),
    raw_item("J", b"abc"),
    raw_item("C", b""),
    raw_item("B", b"\x80"),
    raw_item("B", b"\0\7\xff"),
    raw_item("BOOL", b"\2"),
    raw_item("BOOL", b"\0\1"),
    item("I8", -(1 << 63), (1 << 63) - 1, 0, -1),
    item("I1", -128),
    item("I2", -300, 300),
    item("I4", -(1 << 31)),
    item("U8", (1 << 64) - 1, (1 << 53) + 1),
    item("U4", (1 << 32) - 1),
    item("U2", count=3),
    item("F8", -0.0, 0.0, math.nan, math.inf, 1.5, 100.0, 0.05, 123456.789, 1e-4, 999999999999999.0),
    item("F4", 0.25),
    listed(),
    listed(listed(), text("x"), listed(item("U1", 1), listed(item("U1", 2, 3), listed(listed(text("y")))), item("U1")), listed()),
]


@pytest.mark.parametrize("body", [*SOUND, listed(*SOUND)])
def test_an_item_is_written_as_python_does(body: bytes) -> None:
    buf = np.frombuffer(body, np.uint8)
    out, none = np.zeros(8 * len(body), np.uint8), np.zeros(1, np.uint8)
    p, stop, used = put_item(buf, 0, len(body), np.zeros(9, np.int64), out, 0, none, np.zeros(1, np.int64), 0)
    assert (p, used) == (len(body), 0)
    assert out[:stop].tobytes().decode() == json_text(json_value(read(body)))


@pytest.mark.parametrize("body", [raw_item("J", b"\\"), raw_item("J", b"\xb1"), raw_item("C", b"\0\2x")])
def test_a_text_in_another_code_is_left_to_the_caller(body: bytes) -> None:
    buf = np.frombuffer(listed(text("a"), body), np.uint8)
    out, none = np.zeros(64, np.uint8), np.zeros(1, np.uint8)
    assert put_item(buf, 0, len(buf), np.zeros(9, np.int64), out, 0, none, np.zeros(1, np.int64), 0)[1] == ODD


def test_texts_of_long_doubles_come_from_the_table() -> None:
    body = item("F8", 0.1 + 0.2, 2.5, 1e22)
    texts = np.frombuffer(b"0.300000000000000041e+22", np.uint8)
    out = np.zeros(8 * len(body), np.uint8)
    bounds = np.array([0, 19, 24])
    _, stop, used = put_item(np.frombuffer(body, np.uint8), 0, len(body), np.zeros(1, np.int64), out, 0, texts, bounds, 0)
    assert (out[:stop].tobytes(), used) == (b"[0.30000000000000004,2.5,1e+22]", 2)


def test_plain_decimals_are_the_shortest_texts() -> None:
    random = np.random.default_rng(1)
    for mantissa, places in zip(random.integers(1, 10**9, 300).tolist(), random.integers(0, PLACES + 3, 300).tolist(), strict=True):
        value = mantissa / 10**places
        decimals, digits = plain_decimal(value)
        assert is_long(value) == (decimals < 0)
        if decimals >= 0:
            whole = f"{digits:0{decimals + 1}d}"
            shown = f"{whole[: len(whole) - decimals]}.{whole[len(whole) - decimals :] or 0}"
            assert shown == json.dumps(value)
