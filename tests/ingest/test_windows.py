"""Windows from events: each test says one rule of the contract."""

from hypothesis import given
from hypothesis import strategies as st

from ingest.windows import ContextEvent, Fold, Span

CTX = (None, None, None, None)


def event(time, role, chamber=None, *, lot=None, wafer=None, recipe=None, step=None, ceid=1):
    return ContextEvent(time, role, ceid, f"{time}{role}{chamber}{lot}{wafer}{step}", chamber, (lot, wafer, recipe, step))


def fold(*events, chambers=("A",)):
    state = Fold(chambers)
    closed = state.feed(sorted(events, key=ContextEvent.order))
    return sorted([*closed, *state.open()], key=lambda s: (s.started_us, s.chamber, s.ordinal))


def test_a_start_opens_a_window_that_its_end_completes():
    assert fold(event(1, "start", "A", step="1"), event(5, "end", "A")) == [Span("A", 1, 0, (None, None, None, "1"), 5, True)]


def test_another_start_closes_it_incomplete():
    first, second = fold(event(1, "start", "A", step="1"), event(4, "start", "A", step="2"))
    assert (first.ended_us, first.complete) == (4, False)
    assert second.ended_us is None


def test_an_end_of_another_context_closes_it_incomplete():
    (window,) = fold(event(1, "start", "A", step="1"), event(5, "end", "A", step="2"))
    assert (window.ended_us, window.complete) == (5, False)


def test_an_end_without_a_start_makes_no_window():
    assert fold(event(5, "end", "A")) == []


def test_ends_come_before_context_changes_before_starts_at_one_time():
    windows = fold(
        event(1, "start", "A", wafer="W1", step="1"),
        event(5, "start", "A", step="2"),
        event(5, None, "A", wafer="W2"),
        event(5, "end", "A", wafer="W1", step="1"),
    )
    assert windows[0].complete
    assert windows[1].context == (None, "W2", None, "2")


def test_an_event_without_a_chamber_speaks_for_all():
    windows = fold(event(0, None, lot="L1"), event(1, "start", step="1"), chambers=("A", "B"))
    assert [(w.chamber, w.context[0]) for w in windows] == [("A", "L1"), ("B", "L1")]


def test_a_context_stays_in_force_until_it_is_stated_anew_or_emptied():
    windows = fold(
        event(0, None, "A", lot="L1"),
        event(1, "start", "A", step="1"),
        event(2, "end", "A"),
        event(3, None, "A", lot=""),
        event(4, "start", "A"),
    )
    assert [w.context[0] for w in windows] == ["L1", None]


def test_two_starts_at_one_time_make_an_empty_window_first():
    windows = fold(event(1, "start", "A", step="1"), event(1, "start", "A", step="2"))
    assert [(w.started_us, w.ended_us, w.ordinal) for w in windows] == [(1, 1, 0), (1, None, 1)]


EVENTS = st.lists(
    st.builds(
        event,
        st.integers(0, 20),
        st.sampled_from(["start", "end", None]),
        st.sampled_from([None, "A", "B"]),
        lot=st.sampled_from([None, "", "L1", "L2"]),
        step=st.sampled_from([None, "1", "2"]),
    ),
    max_size=25,
)


@given(EVENTS, st.integers(0, 25))
def test_going_on_from_a_saved_state_gives_the_same_windows(events, cut):
    ordered = sorted({e.order(): e for e in events}.values(), key=ContextEvent.order)
    whole = Fold(("A", "B"))
    expected = [*whole.feed(ordered), *whole.open()]
    first = Fold(("A", "B"))
    closed = first.feed(ordered[:cut])
    second = Fold(("A", "B"), first.state())
    assert [*closed, *second.feed(ordered[cut:]), *second.open()] == expected
    assert second.state() == whole.state()
