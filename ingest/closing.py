"""The end of a batch: final windows, features, gaps and accounts become one :class:`storage.store.Change`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import pyarrow as pa

from ingest import features
from ingest.account import Account
from ingest.batch import Batch
from ingest.circuits import Breakers, index_rows, microseconds
from ingest.derived import owed_rows
from ingest.forgetting import forget
from ingest.gaps import Gap, gap_count, gap_id, gaps_of
from ingest.keys import StreamState
from ingest.reassign import Reassignment, paths_of
from ingest.rows import by_tool
from ingest.tracefile import Reduced
from storage import featurerows
from storage.circuits import TOOL, Circuit, log_table
from storage.files import StagedFile
from storage.index import Facts, IndexDelta, Window
from storage.schema import ACCOUNT, rows_table
from storage.store import Change
from storage.upkeep import names_all

INLINE_ROWS = 512
"""Tables of at most this many rows go into the catalog itself; larger ones become a data file."""

REWRITTEN = ("conflicts",)
"""Tables whose files late events may rewrite, and are merged by day: a file for each tool, never in the catalog itself."""


class Closing:
    """A finished batch that can be committed as any ledger seq."""

    def __init__(
        self,
        batch: Batch,
        *,
        actor: str,
        software: str,
        config_digest: str | None,
        refused: Sequence[dict[str, str]] = (),
        breakers: Breakers,
        action: str = "ingest",
        note: dict[str, Any] | None = None,
    ) -> None:
        self._breakers = breakers
        self._action = action
        self._note = note or {}
        self._refused = list(refused)
        self._batch = batch
        self._actor = actor
        self._software = software
        self._config_digest = config_digest
        batch.flush()
        self.totals = Account()
        for payload in batch.payloads:
            payload.account.check(payload.source)
            self.totals.add(payload.account)
        with batch.stages("windows"):
            self._reassignment = Reassignment(batch)
            self._reassignment.run()
            batch.recent.lose(self._reassignment.windows)
            self._settle_windows()
        with batch.stages("features"):
            without = paths_of(self._reassignment.removed.values())
            self._features: list[Reduced] = []
            self._stage_features: Callable[[int], StagedFile] | None = None
            with batch.derived.guard():
                if batch.derived.works:
                    self._features = features.collect(batch, self._revised, self._reassignment.windows, without)
                    if self.features > INLINE_ROWS:
                        self._stage_features = features.encode(batch, self._features)
            self._forget_faulty()
        with batch.stages("keys"):
            self._states = [state for state in batch.keys.states.values() if state.before is not state.now]
            self._settle_gaps()
        batch.spill_quarantine()
        self._purges = batch.withdrawal is not None and batch.withdrawal.purges
        if self._purges:
            forget(batch, [*self._revised, *self._withdrawn], self._closed, self._states, self._reassignment.removed)

    @property
    def windows(self) -> int:
        """Windows created or revised."""
        return len(self._revised)

    @property
    def owed(self) -> int:
        """Windows whose features could not be computed, and are owed."""
        return 0 if self._batch.derived.works else len(self._revised)

    @property
    def features(self) -> int:
        """Feature rows written."""
        return sum(len(piece.positions) for piece in self._features)

    def changed_windows(self) -> list[Window]:
        """Return the windows that are gone, or have another context or other borders than before."""
        index = self._batch.store.index
        old = [(index.window(window.window_id), window) for window in self._revised]
        return [*self._withdrawn, *(was for was, now in old if was and not was.same_row(replace(now, occurrence=was.occurrence)))]

    def tools(self) -> list[str]:
        """Return the tools that the batch touched."""
        named = {tool for payload in self._batch.payloads for tool in payload.tools | ({payload.tool} if payload.tool else set())}
        return sorted(named | (self._batch.withdrawal.tools if self._batch.withdrawal else set()))

    def replaces_current_files(self) -> bool:
        """Tell whether the committed files that late events let this batch rewrite are still those of the lake."""
        store = self._batch.store
        return all(names_all(store, table, paths) for table, paths in self._reassignment.removed.items())

    def _settle_windows(self) -> None:
        """Find the windows whose row or samples changed."""
        batch = self._batch
        current, self._withdrawn = batch.windows.finish()
        touched = set(batch.touched) | self._reassignment.windows
        self._replaced: list[Window] = []
        self._revised: list[Window] = []
        for window_id, window in current.items():
            old = batch.store.index.window(window_id) if window_id not in batch.windows.new_ids else None
            if old is None or window_id in touched or not old.same_row(window):
                self._revised.append(window)
                if old is not None:
                    self._replaced.append(old)
        for window_id in touched - set(current) - {window.window_id for window in self._withdrawn}:
            old = batch.store.index.window(window_id)
            if old is not None:
                self._revised.append(old)
                self._replaced.append(old)
        self._revised.sort(key=lambda w: (w.started_us, w.window_id))

    def _settle_gaps(self) -> None:
        self._opened: list[tuple[StreamState, Gap]] = []
        self._closed: list[str] = []
        self.gaps = 0
        for state in self._batch.keys.states.values():
            self.gaps += gap_count(state.now, state.period_us)
            if state.before is state.now:
                continue
            before, now = (gaps_of(runs, state.period_us) for runs in state.changed(around=1))
            self._opened += [(state, gap) for gap in sorted(now - before)]
            self._closed += [gap_id(state, gap) for gap in sorted(before - now)]

    # --- the commit

    def change(self, seq: int, now: datetime) -> Change:
        """Return what the commit with ledger seq ``seq`` makes visible."""
        batch = self._batch
        feature_rows = self._feature_rows(seq)
        batch.derived.settle(self._breakers, tried=bool(self._revised))
        self._owed = owed_rows(batch.store, batch.derived, self._revised, self._withdrawn)
        rows: dict[str, pa.Table] = {
            "events": batch.events.table(),
            "windows_log": self._window_rows(seq),
            "texts": _joined("texts", batch.tables["texts"]),
            "conflicts": _joined("conflicts", batch.tables["conflicts"]),
            "gaps_log": self._gap_rows(seq),
            "streams_log": self._stream_rows(seq),
            "superseded": self._superseded(seq),
        }
        for name in list(rows):
            if rows[name].num_rows > (0 if name in REWRITTEN else INLINE_ROWS):
                table = rows.pop(name)
                for own in [part for _, part in by_tool(table)] if name in REWRITTEN else [table]:
                    batch.stager.write(name, own)
        rows |= feature_rows
        rows |= {
            "features_owed_log": rows_table("features_owed_log", [(*row, seq) for row in self._owed]),
            "payloads": self._payload_rows(seq, now),
            "sensors": self._sensor_rows(now),
            "circuits_log": self._circuit_rows(seq),
            "quarantine_states": rows_table("quarantine_states", self._quarantine_states(seq)),
            "dictionaries": rows_table("dictionaries", [(tool, body, seq) for tool, body in sorted(batch.dictionaries.items())]),
        }
        return Change(
            self._action,
            self._actor,
            batch.batch_id,
            self._body() | ({"settled": seq} if self._purges else {}),
            self._index(seq),
            list(batch.stager.files),
            dict(self._reassignment.removed),
            rows,
            self._deleted(),
        )

    def _deleted(self) -> dict[str, str]:
        """Return table -> predicate of rows that the catalog holds: those of withdrawn payloads, and accounts that are written anew."""
        withdrawal = self._batch.withdrawal
        if withdrawal is None:
            return {}
        return withdrawal.deleted | ({"payloads": withdrawal.accounts_of} if withdrawal.accounts.num_rows else {})

    def _quarantine_states(self, seq: int) -> list[tuple[str, str, int]]:
        reopened = self._batch.withdrawal.reopened if self._batch.withdrawal else []
        return [(name, "replayed", seq) for name in self._batch.replays] + [(name, "open", seq) for name in reopened]

    def _window_rows(self, seq: int) -> pa.Table:
        return rows_table(
            "windows_log",
            [
                (
                    w.window_id,
                    w.tool,
                    w.chamber or None,
                    *w.context,
                    w.occurrence,
                    w.started_us,
                    w.ended_us,
                    w.complete,
                    w.source,
                    w.ordinal,
                    seq,
                )
                for w in self._revised
            ],
        )

    def _feature_rows(self, seq: int) -> dict[str, pa.Table]:
        """Return the feature rows if they are few; many become a data file."""
        staged = list(self._batch.stager.files)
        with self._batch.derived.guard():
            if self._stage_features is not None:
                self._stage_features(seq)
            elif self.features:
                [few] = features.rows_of(self._features, self._batch.spool)
                return {"features_log": featurerows.table(few, seq)}
        self._forget_faulty()
        if self._batch.derived.fault is not None:
            for file in set(self._batch.stager.files) - set(staged):
                self._batch.stager.forget(file)
        return {}

    def _forget_faulty(self) -> None:
        """Let go of features whose computation failed on the way: they are owed, all of them."""
        if self._batch.derived.fault is not None:
            self._features, self._stage_features = [], None

    def _superseded(self, seq: int) -> pa.Table:
        windows = [("window", "", w.window_id, w.revision, seq) for w in [*self._replaced, *self._withdrawn]]
        return rows_table("superseded", [*windows, *(("gap", name, None, None, seq) for name in self._closed)])

    def _gap_rows(self, seq: int) -> pa.Table:
        return rows_table("gaps_log", [(gap_id(state, gap), *state.key, *gap, seq) for state, gap in self._opened])

    def _stream_rows(self, seq: int) -> pa.Table:
        rows = []
        for state in self._states:
            common = (*state.key, state.timed, max(0, state.period_us))
            if self._purges:  # nothing older is left of the stream
                rows += [(*common, 1, *run, seq) for run in state.now.tolist()]
                continue
            rows += [(*common, -1, *run, seq) for run in state.removed()]
            rows += [(*common, 1, *run, seq) for run in state.added()]
        return rows_table("streams_log", rows)

    def _payload_rows(self, seq: int, now: datetime) -> pa.Table:
        stamp = microseconds(now)
        rows = []
        for payload in self._batch.payloads:
            row = payload.row()
            head = [row[name] for name in ("payload_id", "key", "sha256", "tool", "format", "source", "state")]
            rows.append((*head, stamp, self._batch.batch_id, self._config_digest, *(row[name] for name in ACCOUNT), payload.size, seq))
        added = rows_table("payloads", rows)
        return pa.concat_tables([added, self._batch.withdrawal.accounts]) if self._batch.withdrawal else added

    def _sensor_rows(self, now: datetime) -> pa.Table:
        """Return the names of positions that the lake does not know yet, or knows by another name."""
        known: dict[tuple[str, str, int], tuple[Any, ...]] = {}
        pairs = sorted({(tool, trace) for tool, trace, _ in self._batch.layouts})
        for tool, trace in pairs:
            known |= {(tool, trace, position): named for position, named in self._batch.store.index.sensors(tool, trace).items()}
        rows = []
        stamp = microseconds(now)
        for tool, trace, layout in self._batch.layouts:
            for position, sensor in enumerate(layout, start=1):
                if known.get((tool, trace, position)) != tuple(sensor):
                    known[tool, trace, position] = tuple(sensor)
                    rows.append((tool, trace, position, *sensor, stamp, None))
        self._sensors = rows
        return rows_table("sensors", rows)

    def _circuit_rows(self, seq: int) -> pa.Table:
        changes = self._breakers.changes()
        known = {circuit.tool for circuit in changes if circuit.kind == TOOL}
        index = self._batch.store.index
        fresh = [
            tool for tool in self.tools() if tool not in known and not (index.tool_revision(tool) or index.circuit_revision(TOOL, tool))
        ]
        return log_table([*changes, *(Circuit(TOOL, tool, reason="first data") for tool in fresh)], seq)

    def _body(self) -> dict[str, Any]:
        batch = self._batch
        root = batch.store.path
        story = self._breakers.story()
        return ({"circuits": story} if story else {}) | {
            "software": self._software,
            "config_digest": self._config_digest,
            "refused": self._refused,
            "tools": self.tools(),
            "chambers": [list(pair) for pair in batch.windows.chambers()],
            "counts": self.totals.figures() | {"windows": self.windows, "features": self.features, "gaps": self.gaps},
            "payloads": [
                {"payload_id": p.payload_id, "key": p.key, "sha256": p.sha256, "size": p.size, "source": p.source}
                | p.account.figures()
                | ({} if p.kept is None else {"kept": p.kept})
                for p in batch.payloads
            ],
            "files": [staged.entry(root) for staged in batch.stager.files],
            **self._note,
            **(self._batch.withdrawal.document() if self._batch.withdrawal else {}),
            "removed": [path.relative_to(root).as_posix() for paths in self._reassignment.removed.values() for path in paths],
        }

    def _facts(self) -> dict[str, Facts]:
        batch = self._batch
        texts = {tool for table in batch.tables["texts"] for tool in table.column("tool").unique().to_pylist()}
        conflicts = {tool for table in batch.tables["conflicts"] for tool in table.column("tool").unique().to_pylist()}
        texts |= {place.tool for place in batch.history.staged if place.table == "texts"}
        conflicts |= {place.tool for place in batch.history.staged if place.table == "conflicts"}
        last: dict[str, int] = {}
        for place in batch.history.staged:
            if place.table == "traces":
                last[place.tool] = max(place.time_hi, last.get(place.tool, place.time_hi))
        events = batch.events.last_us
        return {tool: Facts(events.get(tool), last.get(tool), tool in texts, tool in conflicts) for tool in self.tools()}

    def _index(self, seq: int) -> IndexDelta:
        batch = self._batch
        void, kept = batch.windows.checkpoints()
        keyed = [(state, (state.key.tool, state.key.chamber or "", state.key.trace, state.key.stream)) for state in self._states]
        return IndexDelta(
            seq,
            "",
            payloads=[(p.key, p.payload_id, p.sha256, p.size, seq) for p in batch.payloads],
            payloads_removed=batch.withdrawal.payloads if batch.withdrawal and not self._purges else (),
            chambers_removed=sorted(batch.withdrawal.chambers - set(batch.windows.chambers())) if batch.withdrawal else (),
            streams=[(*key, state.timed, max(0, state.period_us)) for state, key in keyed],
            runs_removed=[(*key, *run) for state, key in keyed for run in state.removed()],
            runs_added=[(*key, *run) for state, key in keyed for run in state.added()],
            windows=[replace(window, revision=seq) for window in self._revised],
            windows_removed=[window.window_id for window in self._withdrawn],
            tools=dict.fromkeys(self.tools(), seq),
            facts=self._facts(),
            dictionaries=sorted(batch.dictionaries.items()),
            sensors=[row[:7] for row in self._sensors],
            chambers=batch.windows.chambers(),
            checkpoints_void=void,
            checkpoints=kept,
            circuits=index_rows(self._breakers.changes(), seq),
            owed=self._owed,
        )


def _joined(name: str, tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables) if tables else rows_table(name, [])
