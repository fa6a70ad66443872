"""Page encodings against their slow twins."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import pages
from kernels.reference import pages as slow
from storage.zstd import zstd

INT64 = st.integers(-(2**63), 2**63 - 1)
STEADY = st.builds(
    lambda first, step, count: [(first + i * step + 2**63) % 2**64 - 2**63 for i in range(count)],
    INT64,
    st.integers(-9, 9),
    st.integers(0, 400),
)
NUMBERS = st.one_of(st.lists(INT64, max_size=300), STEADY, st.lists(st.integers(-5, 2**40), max_size=300))
CODES = st.integers(1, 17).flatmap(
    lambda width: st.tuples(st.just(width), st.lists(st.tuples(st.integers(0, (1 << width) - 1), st.integers(1, 40)), max_size=40))
)


def bits_of(numbers):
    return np.asarray(numbers, np.int64).view(np.uint64)


@given(NUMBERS)
@settings(max_examples=100, deadline=None)
def test_byte_streams_hold_each_byte_of_every_value(numbers):
    assert [row.tobytes() for row in pages.byte_streams(bits_of(numbers))] == slow.split_bytes(numbers)


@given(NUMBERS, st.integers(1, 5))
@settings(max_examples=200, deadline=None)
def test_deltas_in_whole_bytes_read_back(numbers, copies):
    assert slow.read_delta_binary_packed(pages.delta_bytes(np.asarray(numbers, np.int64), copies)) == numbers * copies


@given(CODES, st.integers(1, 5))
@settings(max_examples=200, deadline=None)
def test_hybrid_runs_and_packed_bits_read_back(drawn, copies):
    width, stretches = drawn
    codes = [code for code, count in stretches for _ in range(count)]
    array = np.asarray(codes, np.int32)
    assert slow.read_rle_hybrid(pages.rle_hybrid(array, width), width, len(codes)) == codes
    assert slow.read_rle_hybrid(pages.rle_hybrid(array, width, copies), width, len(codes) * copies) == codes * copies
    assert slow.read_rle_hybrid(pages.packed(array, width), width, len(codes)) == codes
    values, counts = (np.asarray(column, np.int64) for column in (zip(*stretches, strict=True) if stretches else ((), ())))
    assert slow.read_rle_hybrid(pages.runs(values, counts, width), width, len(codes)) == codes


def test_equal_values_cost_a_run():
    assert len(pages.rle_hybrid(np.full(100_000, 3), 2)) == 4


@given(st.sampled_from([1, 2, 8]), st.lists(st.integers(0, 255), max_size=64), st.integers(1, 30))
@settings(max_examples=100, deadline=None)
def test_the_size_by_entropy(planes, some, copies):
    data = np.asarray(some[: len(some) // planes * planes] * copies, np.uint8)
    assert abs(pages.coded_size(data, planes) - slow.coded_size(data.tobytes(), planes)) < 1e-6 * (1 + len(data))


def test_the_size_by_entropy_is_about_what_zstd_makes_of_noise():
    random = np.random.default_rng(8)
    for spread in (10, 20, 40):
        data = np.clip(random.normal(128, spread, 20_000), 0, 255).astype(np.uint8)
        made = len(zstd.compress(data, 1))
        assert 0.97 < pages.coded_size(data, 1) / made < 1.03


class Numbering:
    """A dictionary, and what stands in it."""

    def __init__(self):
        self.entries = np.empty(pages.DICTIONARY_MAX, np.uint64)
        self.slot_of = np.empty(pages.DICTIONARY_MAX, np.int64)
        self.table = np.full(pages.SLOTS, -1, np.int16)
        self.held = 0

    def add(self, numbers, limit):
        codes = np.empty(len(numbers), np.int32)
        bits = bits_of(numbers)
        size = int(pages.number_values(bits, self.entries, self.slot_of, self.table, self.held, limit, codes))
        self.held = size if size >= 0 else self.held
        return codes.tolist() if size >= 0 else None

    @property
    def known(self):
        return self.entries[: self.held].view(np.int64).tolist()


REPEATING = st.lists(st.one_of(st.integers(-3, 3), st.sampled_from([-(2**63), 2**63 - 1, 0x7FF8 << 48]), INT64), max_size=60)


@given(st.lists(st.tuples(REPEATING, st.integers(0, 20)), max_size=8))
@settings(max_examples=150, deadline=None)
def test_a_dictionary_grows_by_what_is_new_or_stays_as_it_was(additions):
    numbering, entries = Numbering(), []
    for numbers, limit in additions:
        codes, grown = slow.number_values(numbers, entries)
        if len(grown) - len(entries) > limit:
            codes, grown = None, entries
        assert numbering.add(numbers, limit) == codes
        entries = grown
        assert numbering.known == entries
    assert sorted(numbering.table[numbering.table >= 0].tolist()) == list(range(len(entries)))


def test_values_that_do_not_repeat_are_given_up_early():
    numbering = Numbering()
    assert numbering.add(range(10 * pages.TRIAL), pages.DICTIONARY_MAX) is None
    assert numbering.add([7] * 9, 1) == [0] * 9


def test_a_dictionary_has_a_limit():
    numbering = Numbering()
    full = [value for value in range(pages.DICTIONARY_MAX) for _ in range(2)]
    assert numbering.add(full, pages.DICTIONARY_MAX) == full
    assert numbering.add([-1], 1) is None
    assert numbering.add([5], 0) == [5]
