"""Compressed deliveries are read through; damage is one span counted at its compressed length."""

import gzip
import io

import pytest

from ingest.unpack import Unpacked
from storage.zstd import zstd

CONTENT = bytes(range(256)) * 4096 + b"end"
PACKED = {"gzip": gzip.compress(CONTENT), "zstd": zstd.compress(CONTENT)}


def read(data):
    state = Unpacked()
    return b"".join(state.read(io.BytesIO(data))), state


@pytest.mark.parametrize("kind", PACKED)
def test_a_sound_stream_is_read_through(kind):
    out, state = read(PACKED[kind])
    assert (out, state.size, state.damage) == (CONTENT, len(CONTENT), None)


@pytest.mark.parametrize("kind", PACKED)
def test_two_members_are_one_payload(kind):
    assert read(PACKED[kind] * 2)[0] == CONTENT * 2


@pytest.mark.parametrize("kind", PACKED)
def test_what_follows_the_damage_is_one_span(kind):
    noise = b"\xff" * 5000
    out, state = read(PACKED[kind] + noise)
    assert out == CONTENT
    assert (state.damage.start, state.damage.reason) == (len(CONTENT), "bad_compression")
    assert state.damage.stop - state.damage.start == len(state.damage.data) >= len(noise)


@pytest.mark.parametrize("kind", PACKED)
def test_a_cut_stream_gives_what_came_out_and_says_so(kind):
    out, state = read(PACKED[kind][: len(PACKED[kind]) // 2])
    assert CONTENT.startswith(out)
    assert state.damage is not None


def test_plain_bytes_pass_untouched():
    out, state = read(CONTENT)
    assert (out, state.damage) == (CONTENT, None)


def test_nothing_is_nothing():
    assert read(b"") == (b"", Unpacked())
