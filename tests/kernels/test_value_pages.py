"""Pages of values: the dictionary and the sizes against slow twins, whole pages against the values they hold."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import value_pages as pages
from kernels.reference import pages as slow
from storage.zstd import zstd

INT64 = st.integers(-(2**63), 2**63 - 1)


def bits_of(numbers):
    return np.asarray(numbers, np.int64).view(np.uint64)


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


KINDS = {
    "one": lambda random, n: np.full(n, random.normal()),
    "noise": lambda random, n: random.normal(size=n),
    "float32": lambda random, n: random.normal(size=n).astype(np.float32),
    "few": lambda random, n: np.round(random.normal(size=n) * 3),
    "many": lambda random, n: random.choice(random.normal(size=600), n),
}


@given(
    st.lists(st.tuples(st.sampled_from(sorted(KINDS)), st.integers(0, 1500)), min_size=1, max_size=12),
    st.integers(0, 3000),
    st.integers(0, 99),
)
@settings(max_examples=120, deadline=None)
def test_pages_hold_their_runs(runs, most, seed):
    random = np.random.default_rng(seed)
    values = [KINDS[kind](random, n).astype(np.float64) for kind, n in runs]
    bits = np.concatenate(values).view(np.uint64)
    edges = np.cumsum([0, *(len(run) for run in values)])
    numbering = Numbering()
    body, found = np.full(pages.room(len(bits), len(runs)), 0xAA, np.uint8), np.empty((len(runs), 5), np.int64)
    codes = np.empty(len(bits), np.int32)
    dictionary = numbering.entries, numbering.slot_of, numbering.table, 0
    numbering.held, count = pages.encode_values(bits, edges, edges.copy(), most, *dictionary, codes, body, found)
    assert found[:count, 0].tolist() == [0, *found[: count - 1, 1].tolist()]
    assert found[count - 1, 1] == len(runs)
    for first, last, start, stop, coded in found[:count].tolist():
        own = bits[edges[first] : edges[last]]
        assert last == first + 1 or len(own) <= most
        page = body[start:stop].tobytes()
        if coded:
            known = numbering.entries[: numbering.held]
            assert page[0] in {8, 16}
            assert known[slow.read_rle_hybrid(page[1:], page[0], len(own))].tolist() == own.tolist() if len(own) else page == b"\x08"
        elif page:
            assert page == b"".join(slow.split_bytes(own.tolist()))
        else:
            assert len(own) == 0 or (own & np.uint64((1 << 29) - 1)).any()
    assert sorted(numbering.table[numbering.table >= 0].tolist()) == list(range(numbering.held))


def test_runs_that_repeat_are_numbered_and_others_are_not():
    random = np.random.default_rng(3)
    values = [KINDS[kind](random, 2000).astype(np.float64) for kind in ("few", "one", "noise", "float32", "few")]
    bits, edges = np.concatenate(values).view(np.uint64), np.arange(0, 10_001, 2000)
    numbering, found = Numbering(), np.empty((5, 5), np.int64)
    dictionary = numbering.entries, numbering.slot_of, numbering.table, 0
    codes, body = np.empty(len(bits), np.int32), np.empty(pages.room(len(bits), 5), np.uint8)
    held, count = pages.encode_values(bits, edges, edges.copy(), 8000, *dictionary, codes, body, found)
    assert held == len(set(bits[:4000].tolist()) | set(bits[8000:].tolist()))
    assert [(first, last, coded) for first, last, _, _, coded in found[:count].tolist()] == [(0, 2, 1), (2, 4, 0), (4, 5, 1)]
