"""The windows of the tools that a batch touches: from events and from context columns, with ids, revisions and occurrences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ingest.config import Config
from ingest.records import Int64
from ingest.windows import NONE_YET, ContextEvent, Fold, Span, context_event
from storage.index import Index, Place, Window, window_of
from storage.store import Store

DAY_US = 86_400_000_000
CHECKPOINTS = 9
"""Days of which a fold leaves a checkpoint."""

EVENT, CONTEXT = "event", "context"


@dataclass(slots=True)
class _Tool:
    """One tool's events in this batch, and the windows that they change."""

    fresh: list[ContextEvent] = field(default_factory=list)
    chambers: set[str] = field(default_factory=set)
    folded: int = 0
    earliest_us: int = NONE_YET
    base: dict[str, int] = field(default_factory=dict)
    """Per chamber: from this start on the windows are those of the fold; empty while no event of the batch bears on windows."""
    ordinals: dict[str, int] = field(default_factory=dict)
    """Per chamber: of several windows that start at ``base``, the fold made those from this ordinal on."""
    known: set[str] = field(default_factory=set)
    """The chambers for which events without a chamber were folded."""
    windows: dict[str, list[Window]] = field(default_factory=dict)
    old: dict[str, list[Window]] = field(default_factory=dict)
    checkpoints: dict[int, tuple[int, str]] = field(default_factory=dict)
    again: bool = False
    """Fold all events anew: some are withdrawn."""
    lost: set[str] = field(default_factory=set)
    """Chambers that nothing names any more."""
    fold: Fold | None = None
    """Where the last fold ended; later events of the batch go on from there."""
    last: tuple[int, int, int, str] = (NONE_YET, 0, 0, "")
    """The place of the last event that was folded."""
    ids: dict[tuple[str, int, int], int] = field(default_factory=dict)
    """(chamber, start, ordinal) -> window id."""


class WindowBook:
    """Window ids of records, and at the end which windows are new, revised or withdrawn."""

    def __init__(self, store: Store, index: Index, config: Config) -> None:
        self._store = store
        self._index = index
        self._config = config
        self._tools: dict[str, _Tool] = {}
        self._ids: dict[tuple[str, str, int, int], int] = {}
        self._contexts: dict[tuple[str, str, tuple[str | None, ...]], Window] = {}
        self._emptied: dict[tuple[str, str, tuple[str | None, ...]], Window] = {}
        self._gone: list[str] = []
        self.new_ids: set[int] = set()
        self.frozen = False
        """Windows of events stay as they are: what comes was there before."""

    # --- events

    def add(self, tool: str, events: Sequence[ContextEvent], chambers: Iterable[str]) -> None:
        """Take new events of ``tool`` (accepted ones with a time), and the chambers that streams and events name."""
        if self.frozen:
            return
        state = self._tools.setdefault(tool, _Tool())
        state.fresh.extend(event for event in events if event.role is not None or any(value is not None for value in event.values))
        state.chambers |= set(chambers)

    def _known_chambers(self, tool: str, state: _Tool) -> set[str]:
        model = self._config.model(tool)
        configured = {trace.chamber for trace in model.traces.values() if trace.chamber} if model else set()
        return configured | state.chambers | (self._index.chambers(tool) - state.lost) or {""}

    def forget(self, tool: str, payloads: Sequence[str], chambers: set[str]) -> None:
        """Derive the windows of ``tool`` without the events of ``payloads``, and without ``chambers``."""
        state = self._tools.setdefault(tool, _Tool())
        self._gone = list(payloads)
        state.again, state.lost = True, chambers
        self.fold(tool)

    def fold(self, tool: str) -> None:
        """Derive the windows of ``tool`` from all its events, as far as this batch bears on them."""
        if self.frozen:
            return
        state = self._tools.setdefault(tool, _Tool())
        chambers = self._known_chambers(tool, state)
        unseen = chambers - (self._index.chambers(tool) or {""})
        if not state.fresh and not unseen and not state.again:
            return
        if state.base and state.folded == len(state.fresh) and chambers <= state.known:
            return
        if self._go_on(tool, state, chambers):
            return
        earliest = NONE_YET if unseen or state.again or not state.fresh else min(event.time_us for event in state.fresh)
        checkpoint = self._index.checkpoint(tool, earliest)
        after = checkpoint[0] if checkpoint else NONE_YET
        events = sorted({event.order(): event for event in [*self._stored(tool, after), *state.fresh]}.values(), key=ContextEvent.order)
        if not events and not state.again:
            return
        state.folded, state.earliest_us, state.known = len(state.fresh), earliest, chambers
        fold = state.fold = Fold(chambers, checkpoint[1] if checkpoint else None)
        opened = {span.chamber: span.started_us for span in fold.open()}
        state.ordinals = {span.chamber: span.ordinal for span in fold.open()}
        state.base = {chamber: opened.get(chamber, after + 1) for chamber in chambers | fold.chambers() | self._index.chambers(tool) | {""}}
        state.checkpoints.clear()
        spans = self._feed(fold, events, state)
        since = {chamber: (base, state.ordinals.get(chamber, 0)) for chamber, base in state.base.items()}
        state.old = {
            chamber: [w for w in self._index.windows_after(tool, chamber, place[0]) if (w.started_us, w.ordinal) >= place]
            for chamber, place in since.items()
        }
        state.ids = {(w.chamber, w.started_us, w.ordinal): w.window_id for windows in state.old.values() for w in windows}
        state.ids |= {place[1:]: window_id for place, window_id in self._ids.items() if place[0] == tool}
        state.windows = {chamber: [] for chamber in state.base}
        self._name(tool, state, spans)

    def _go_on(self, tool: str, state: _Tool, chambers: set[str]) -> bool:
        """Fold what came since the last fold, if all of it comes after what was folded: a long payload brings its events in order."""
        if state.fold is None or state.again or not state.base or not chambers <= state.known:
            return False
        events = sorted({event.order(): event for event in state.fresh[state.folded :]}.values(), key=ContextEvent.order)
        if not events or events[0].order() <= state.last:
            return False
        state.folded = len(state.fresh)
        for windows in state.windows.values():
            if windows and windows[-1].ended_us is None:  # it may end now: it is among the spans again
                windows.pop()
        self._name(tool, state, self._feed(state.fold, events, state))
        state.checkpoints = dict(sorted(state.checkpoints.items())[-CHECKPOINTS:])
        return True

    def _stored(self, tool: str, after_us: int) -> list[ContextEvent]:
        last_us = self._index.facts(tool).last_event_us
        if last_us is None or last_us <= after_us:
            return []
        time = "" if after_us == NONE_YET else f" AND ts > make_timestamp({after_us})"
        rows = self._store.rows(
            "SELECT epoch_us(ts), role, ceid, body_digest, chamber, lot, wafer, recipe, step FROM lake.main.events "
            "WHERE tool = ? AND ts IS NOT NULL "
            f"AND (role IS NOT NULL OR lot IS NOT NULL OR wafer IS NOT NULL OR recipe IS NOT NULL OR step IS NOT NULL){time} "
            "AND NOT list_contains(?, payload_id)",
            [tool, self._gone],
        )
        return [context_event(row) for row in rows]

    def _feed(self, fold: Fold, events: list[ContextEvent], state: _Tool) -> list[Span]:
        """Fold ``events``, leaving a checkpoint after the last event of each of the newest days; return the spans closed, or open now."""
        spans: list[Span] = []
        days = [event.time_us // DAY_US for event in events]
        cuts = [*[i + 1 for i in range(len(events) - 1) if days[i] != days[i + 1]][1 - CHECKPOINTS :], len(events)]
        begin = 0
        for cut in cuts:
            spans += fold.feed(events[begin:cut])
            begin = cut
            if events:
                state.last = events[cut - 1].order()
                state.checkpoints[days[cut - 1]] = (fold.time_us, fold.state())
        return spans + fold.open()

    def _name(self, tool: str, state: _Tool, spans: list[Span]) -> None:
        """Give every span its window, behind those that are there: the id it had, or a new one."""
        ids = state.ids
        fresh = sorted((s.started_us, s.chamber, s.ordinal) for s in spans if (s.chamber, s.started_us, s.ordinal) not in ids)
        first = self._index.reserve_window_ids(len(fresh)) if fresh else 0
        for window_id, (started_us, chamber, ordinal) in enumerate(fresh, start=first):
            self._ids[tool, chamber, started_us, ordinal] = ids[chamber, started_us, ordinal] = window_id
            self.new_ids.add(window_id)
        for s in sorted(spans, key=lambda s: (s.started_us, s.ordinal)):
            window_id = ids[s.chamber, s.started_us, s.ordinal]
            state.windows[s.chamber].append(
                window_of((window_id, tool, s.chamber, *s.context, 0, s.started_us, s.ended_us, s.complete, EVENT, s.ordinal, 0))
            )

    # --- which window a time lies in

    def windows(self, tool: str, chamber: str, lo_us: int, hi_us: int) -> list[Window]:
        """Return the event windows of a chamber that may hold times within [lo, hi], in order."""
        state = self._tools.get(tool)
        if state is None or chamber not in state.base:
            return [w for w in self._index.windows_after(tool, chamber, lo_us) if w.started_us <= hi_us]
        base = state.base[chamber]
        earlier = [w for w in self._index.windows_after(tool, chamber, lo_us) if w.started_us < base] if lo_us < base else []
        return [*earlier, *state.windows[chamber]]

    def assign(self, tool: str, chamber: str, time_us: Int64) -> Int64:
        """Return the event window of each time, 0 where it lies in none."""
        return (
            locate(self.windows(tool, chamber, int(time_us.min()), int(time_us.max())), time_us) if len(time_us) else np.empty(0, np.int64)
        )

    def tools(self) -> list[str]:
        """Return the tools whose windows the batch may have changed."""
        return [tool for tool, state in self._tools.items() if state.base]

    def changed_spans(self, tool: str) -> list[tuple[str, int, int]]:
        """Return (chamber, lo, hi) where a time lies in another window than before this batch."""
        state = self._tools.get(tool)
        if state is None or not state.base:
            return []
        spans: list[tuple[str, int, int]] = []
        for chamber in state.base:
            old, new = state.old.get(chamber, []), state.windows.get(chamber, [])
            ends = {edge for w in [*old, *new] for edge in (w.started_us, 1 << 62 if w.ended_us is None else w.ended_us)}
            edges = np.asarray(sorted(ends), np.int64)
            if len(edges) < 2:
                continue
            differs = locate(old, edges[:-1]) != locate(new, edges[:-1])
            for i in np.flatnonzero(differs).tolist():
                if spans and spans[-1][0] == chamber and spans[-1][2] == edges[i]:
                    spans[-1] = (chamber, spans[-1][1], int(edges[i + 1]))
                else:
                    spans.append((chamber, int(edges[i]), int(edges[i + 1])))
        return spans

    # --- context columns

    def context_window(self, tool: str, chamber: str, context: tuple[str | None, ...], first_us: int, last_us: int, *, create: bool) -> int:
        """Return the id of a context's window, widened to hold [first, last]; without ``create`` only if there is one, else 0."""
        key = (tool, chamber, context)
        window = self._contexts.get(key)
        if window is None:
            window = next((w for w in self._index.windows_of_contexts([key]) if w.source == CONTEXT), None)
        emptied = self._emptied.get(key)
        if not create:
            return 0 if window is None or emptied is not None else window.window_id
        if emptied is not None:
            del self._emptied[key]
            window = replace(emptied, started_us=first_us, ended_us=last_us)
        if window is None:
            window_id = self._index.reserve_window_ids(1)
            self.new_ids.add(window_id)
            lot, wafer, recipe, step = context
            window = Window(window_id, tool, chamber, lot, wafer, recipe, step, 0, first_us, last_us, True, CONTEXT, 0)
        assert window.ended_us is not None
        window = replace(window, started_us=min(window.started_us, first_us), ended_us=max(window.ended_us, last_us))
        self._contexts[key] = window
        return window.window_id

    def shrink(self, window: Window, span: tuple[int, int] | None) -> None:
        """Let a context's window hold what is left of it, from first to last sample; None: nothing is."""
        key = (window.tool, window.chamber, window.context)
        if span is None:
            self._emptied[key] = window
        else:
            self._contexts[key] = replace(window, started_us=span[0], ended_us=span[1])

    def context_windows(self) -> dict[int, Window]:
        """Return the context windows that the batch holds, by id."""
        return {window.window_id: window for window in self._contexts.values()}

    # --- the end of the batch

    def finish(self) -> tuple[dict[int, Window], list[Window]]:
        """Return (every window that this batch made, changed or holds, by id; the old windows that are withdrawn)."""
        current = {window.window_id: window for window in self._contexts.values()}
        withdrawn = list(self._emptied.values())
        for state in self._tools.values():
            held = {window.window_id: window for windows in state.windows.values() for window in windows}
            current |= held
            withdrawn += [w for windows in state.old.values() for w in windows if w.window_id not in held]
        return self._number(current, withdrawn), withdrawn

    def _number(self, current: dict[int, Window], withdrawn: Sequence[Window]) -> dict[int, Window]:
        """Set ``occurrence``, also of windows outside the batch that move up or down."""
        gone = {w.window_id for w in withdrawn}
        before = {window_id: self._index.window(window_id) for window_id in current if window_id not in self.new_ids}
        shifted = [
            w
            for window_id, w in current.items()
            if (old := before.get(window_id)) is None or old.started_us != w.started_us or old.context != w.context
        ]
        formerly = [before.get(window.window_id) for window in shifted]
        places = {(w.tool, w.chamber, w.context) for w in [*shifted, *withdrawn, *formerly] if w is not None}
        for window_id, window in current.items():
            stored = before.get(window_id)
            if window.occurrence == 0 and stored is not None:
                current[window_id] = replace(window, occurrence=stored.occurrence)
        held: dict[Place, dict[int, Window]] = {place: {} for place in places}
        for window in [*self._index.windows_of_contexts(places), *current.values()]:
            place = window.tool, window.chamber, window.context
            if place in held:
                held[place][window.window_id] = window
        for (_, _, context), members in held.items():
            ranked = [w for i, w in members.items() if i not in gone and current.get(i, w).context == context]
            ranked.sort(key=lambda w: (w.started_us, w.source, w.ordinal))
            for rank, window in enumerate(ranked, start=1):
                if window.occurrence != rank:
                    current[window.window_id] = replace(window, occurrence=rank)
        return current

    def checkpoints(self) -> tuple[list[tuple[str, int]], list[tuple[str, int, int, str]]]:
        """Return what the index forgets, (tool, from time), and what it keeps, (tool, day, time, state)."""
        void = [(tool, state.earliest_us) for tool, state in self._tools.items() if state.base]
        kept = [(tool, day, *saved) for tool, state in self._tools.items() for day, saved in state.checkpoints.items()]
        return void, kept

    def chambers(self) -> list[tuple[str, str]]:
        """Return (tool, chamber) of all chambers that the batch named."""
        return sorted((tool, chamber) for tool, state in self._tools.items() for chamber in state.chambers)


def locate(windows: Sequence[Window], time_us: Int64) -> Int64:
    """Return for each time the id of the window [started, ended) that holds it, 0 for none; ``windows`` in order of start."""
    if not windows:
        return np.zeros(len(time_us), np.int64)
    starts = np.asarray([w.started_us for w in windows], np.int64)
    ends = np.asarray([1 << 62 if w.ended_us is None else w.ended_us for w in windows], np.int64)
    ids = np.asarray([w.window_id for w in windows], np.int64)
    at = np.searchsorted(starts, time_us, side="right") - 1
    held = (at >= 0) & (time_us < ends[at])
    return np.where(held, ids[at], 0)
