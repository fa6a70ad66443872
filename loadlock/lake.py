"""The Python API: a lake that is opened, fed and queried."""

from __future__ import annotations

import getpass
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb

from ingest import approved, circuits, intake, pipeline, provenance, repair, replay, reprocess, retract, sources, status, upkeep
from ingest import config as configuration
from ingest import jobs as workers
from ingest.config import Config
from ingest.receipts import Summary
from ingest.timing import Stages
from loadlock import __version__
from storage import digest, expiry, maintenance, sweeping, verify
from storage.catalog import open_catalog, show_views
from storage.circuits import OPEN, TOOL, Circuit
from storage.creation import create, exists
from storage.errors import KeyReused, LoadlockError
from storage.patience import answered
from storage.plans import check_ground, signer
from storage.points import Step, reached
from storage.store import Store
from storage.telling import Tell, nobody
from storage.trust import read_trust
from storage.upkeep import Items, Upkeep

UPKEEP_WAIT_S = 5.0
"""Patience of maintenance that runs by itself for the writer lock; the next ingest tries again."""

Source = str | os.PathLike[str]


def actor() -> str:
    """Return who acts, for the ledger: ``LOADLOCK_ACTOR``, else the operating system's user."""
    named = os.environ.get("LOADLOCK_ACTOR")
    if named:
        return named
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _decoding(tell: Tell) -> intake.Progress:
    def report(batch: Any, position: int) -> None:
        tell("bytes decoded", sum(payload.size for payload in batch.payloads[:-1]) + position, 0)

    return report


def new_id() -> str:
    """Return a fresh name for a batch, payload or file."""
    return secrets.token_hex(10)


class Lake:
    """An open lake; a context manager. Made by :func:`loadlock.open`."""

    def __init__(self, path: Source, *, read_only: bool = False, wait: float = 600.0, on_step: Step = reached) -> None:
        self.path = Path(path)
        self.wait_s = wait
        self.last_timings: dict[str, float] = {}
        """CPU seconds by stage of the last ingest."""
        self.last_upkeep: str | None = None
        """Why the maintenance that was due after the last ingest was put off."""
        if not read_only and not exists(self.path):
            create(self.path, actor=actor(), software=__version__, wait_s=wait)
        self.store = Store(self.path, read_only=read_only, on_step=on_step)

    def __enter__(self) -> Lake:
        """Return the lake itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        """Close the lake."""
        self.close()

    def close(self) -> None:
        """Close connection and files."""
        self.store.close()

    # --- in

    def ingest(
        self,
        source: Source | Iterable[Source] | None = None,
        *,
        data: bytes | None = None,
        key: str | None = None,
        tool: str | None = None,
        format: str | None = None,
        config: Config | Source | None = None,
        dry_run: bool = False,
        jobs: int = 1,
        progress: intake.Progress | None = None,
    ) -> Summary:
        """Ingest files, folders or bytes; commit them, and return the account with a receipt for each payload.

        With ``jobs`` > 1 as many threads work, each on tools of its own.
        Raises :class:`storage.errors.KeyReused` when a single payload's key was used before with other bytes.
        """
        summary = self.ingest_all(
            source, data=data, key=key, tool=tool, format=format, config=config, dry_run=dry_run, jobs=jobs, progress=progress
        )
        if len(summary.receipts) == 1 and summary.payloads["refused"]:
            raise KeyReused(f"{summary.receipts[0].source}: {summary.receipts[0].reason}")
        return summary

    def ingest_all(
        self,
        source: Source | Iterable[Source] | None = None,
        *,
        data: bytes | None = None,
        key: str | None = None,
        tool: str | None = None,
        format: str | None = None,
        config: Config | Source | None = None,
        dry_run: bool = False,
        jobs: int = 1,
        progress: intake.Progress | None = None,
    ) -> Summary:
        """Do as :meth:`ingest` does, but report refusals in the summary only."""
        settings = self._settings(config, dry_run=dry_run, progress=progress)
        found: Iterable[sources.Delivery | sources.Skipped]
        if data is not None:
            found = [sources.from_bytes(data, settings.config, tool=tool, format=format, key=key, source=str(source or "bytes"))]
        else:
            paths = [source] if isinstance(source, str | os.PathLike) else list(source or ())
            found = sources.deliveries([Path(path) for path in paths], settings.config, tool=tool, format=format, key=key)
        summary = workers.ingest(self.store, found, settings, jobs)
        self.last_timings = settings.stages.seconds
        if not dry_run and not summary.busy:
            self._maintain(settings)
        return summary

    def maintain(self) -> None:
        """Do the maintenance that is due, if the configuration lets it run by itself; an ingest does so when it is done."""
        self._maintain(self._settings(None))

    def _maintain(self, settings: intake.Settings) -> None:
        if settings.config.maintenance.auto:
            self.last_upkeep = maintenance.run_when_due(upkeep.keeping(self.store, settings, wait_s=UPKEEP_WAIT_S))

    def replay(self, ids: Iterable[str] = (), *, config: Config | Source | None = None) -> Summary:
        """Decode quarantined spans again, all open ones or those of ``ids``, with today's code and configuration."""
        settings = self._settings(config)
        return replay.replay(self.store, list(ids), settings)

    def retract(self, payloads: str | Iterable[str], reason: str) -> dict[str, Any]:
        """Undo deliveries, named by payload id or key, in one commit; the same delivery may come again. Return what was done."""
        names = [payloads] if isinstance(payloads, str) else list(payloads)
        return retract.retract(self.store, names, reason, self._settings(None))

    def reprocess(
        self,
        payloads: str | Iterable[str],
        *,
        files: Iterable[Source] = (),
        tool: str | None = None,
        config: Config | Source | None = None,
        tell: Tell = nobody,
    ) -> dict[str, Any]:
        """Decode payloads, named by id or key, anew with today's code and configuration, in one commit. Return what was done.

        Their bytes come from ``files``, from where the sources were, or from what the lake keeps.
        """
        names = [payloads] if isinstance(payloads, str) else list(payloads)
        return reprocess.reprocess(
            self.store, names, [Path(file) for file in files], tool, self._settings(config, progress=_decoding(tell))
        )

    def repair(self, *, files: Iterable[Source] = (), dry_run: bool = False, tell: Tell = nobody) -> dict[str, Any]:
        """Wall off damaged data files, and make up what was lost from payloads that are at hand. Return what was done, and what is missing.

        Their bytes come from ``files``, from where the sources were, or from what the lake keeps.
        """
        try:
            settings = self._settings(None, dry_run=dry_run, progress=_decoding(tell))
        except duckdb.Error as error:
            raise repair.unreadable(error) from error
        return repair.repair(self.store, [Path(file) for file in files], settings, tell)

    def reset_circuit(self, tool: str, *, reason: str) -> list[Circuit]:
        """Close the circuit of ``tool`` by hand; the ledger keeps who did it, and why. Returns what was not closed."""
        return circuits.reset(self.store, tool, reason=reason, actor=actor(), software=__version__, wait_s=self.wait_s)

    def configuration(self, config: Config | Source | None = None) -> Config:
        """Return the configuration in force; ``config``, where given, is it from now on."""
        return self._settings(config).config

    def open_circuits(self) -> frozenset[str]:
        """Return the tools whose circuit is open, so that nothing of theirs is taken yet."""
        now_us = circuits.microseconds(self.store.clock())
        self.store.ensure_index(self.wait_s)
        return frozenset(found.tool for found in self.store.index.circuits() if found.kind == TOOL and found.at(now_us) == OPEN)

    def _settings(
        self, config: Config | Source | None, *, dry_run: bool = False, progress: intake.Progress | None = None
    ) -> intake.Settings:
        given = config if isinstance(config, Config) or config is None else configuration.load(Path(config))
        chosen = pipeline.settle_config(self.store, given, actor(), __version__, self.wait_s, dry_run=dry_run)
        return intake.Settings(chosen, actor(), __version__, new_id, self.wait_s, dry_run, progress, Stages())

    # --- what destroys

    def plan(self, kind: str, wish: Mapping[str, Any], *, hours: float | None = None) -> dict[str, Any]:
        """Return the plan of a destructive action: what ``wish`` would do, exactly (:data:`ingest.approved.DEEDS` lists the kinds)."""
        return approved.plan(self.store, kind, wish, actor(), hours)

    def needs_approval(self) -> bool:
        """Tell whether the lake trusts keys, so that a confirmation does not serve."""
        return read_trust(self.store).in_force

    def check_approval(self, plan: Mapping[str, Any], approval: Mapping[str, Any]) -> None:
        """Raise :class:`storage.trust.ApprovalMissing` where ``approval`` would not count, or ``plan`` no longer holds."""
        with self.store.reading():
            found = approved.ground(self.store, plan)
            check_ground(plan, found)
            signer(plan, approval, found.trust)
            approved.unchanged(self.store, plan)

    def apply(self, plan: Mapping[str, Any], approvals: Iterable[Mapping[str, Any]] = (), *, confirmed: bool = False) -> dict[str, Any]:
        """Carry ``plan`` out, in one commit that holds the proof; ``confirmed`` serves where the lake trusts no keys."""
        return approved.apply(self.store, plan, list(approvals), self._settings(None), confirmed=confirmed)

    # --- maintenance

    def compact(self, *, everything: bool = False, dry_run: bool = False, tell: Tell = nobody) -> Items:
        """Merge the small files of closed tool-days, flush what the catalog holds; ``everything``: what is not due yet, too."""
        with answered("files were merged"):
            return maintenance.compact(replace(self._upkeep(), tell=tell), everything=everything, dry_run=dry_run)

    def expire(self, *, keep_days: float | None = None, dry_run: bool = False) -> Items:
        """Let the snapshots go that are older than ``keep_days`` (default: as configured)."""
        with answered("snapshots expired"):
            return expiry.expire(self._upkeep(keep_days=keep_days), dry_run=dry_run)

    def sweep(self, *, guard_hours: float | None = None, dry_run: bool = False) -> Items:
        """Remove data files that no snapshot names and that are older than ``guard_hours`` (default: as configured)."""
        with answered("files were removed"):
            return sweeping.sweep(self._upkeep(guard_hours=guard_hours), dry_run=dry_run)

    def _upkeep(self, *, keep_days: float | None = None, guard_hours: float | None = None) -> Upkeep:
        return upkeep.keeping(self.store, self._settings(None), wait_s=self.wait_s, keep_days=keep_days, guard_hours=guard_hours)

    # --- out

    def sql(self, query: str, parameters: list[Any] | None = None) -> duckdb.DuckDBPyRelation:
        """Return ``query`` over the lake as a relation; it runs when its result is asked for.

        - ``.pl()``: a polars DataFrame over DuckDB's Arrow buffers, numbers and times without a copy; ``.pl(lazy=True)``: a LazyFrame.
        - ``.to_arrow_table()``: a pyarrow Table over the same buffers; ``.arrow()`` (or ``.to_arrow_reader()``): a RecordBatchReader,
          for results that are larger than memory. Whatever reads the Arrow stream interface takes the relation itself.
        - ``.df()``: a pandas DataFrame (needs pandas: ``pip install loadlock[pandas]``). numpy holds numbers and times without NULLs;
          numbers with NULLs become floats with NaN. ``.to_arrow_table().to_pandas(types_mapper=pandas.ArrowDtype)`` keeps Arrow's buffers.
        - ``.fetchnumpy()``: a dictionary of numpy arrays; ``.fetchall()``: tuples.

        ``parameters`` fill the query's ``?``. Example: ``lake.sql("select ts, value from samples where wafer = ?", ["W07"]).pl()``.
        """
        return self.store.connection.sql(query, params=parameters)

    def as_of(self, snapshot: int) -> None:
        """Show the lake as it was at ``snapshot`` from now on (this object only, which must be read-only)."""
        self.store.at_snapshot(snapshot)

    def connect(self) -> duckdb.DuckDBPyConnection:
        """Return a DuckDB connection of its own, read-only, with every view and macro in place; close it when done."""
        connection = open_catalog(self.store.path / "catalog.sqlite", self.store.data, read_only=True)
        show_views(connection)
        return connection

    def status(self) -> status.Status:
        """Return tools, rows, last batch, gaps, quarantine, conflicts, circuits and sizes: a dictionary, tables in a notebook."""
        return status.status(self.store)

    def trace(
        self, tool: str, trace: str, seq: int, *, chamber: str | None = None, at: datetime | None = None, payload: Source | None = None
    ) -> list[dict[str, Any]]:
        """Return every record under a sequence number: its samples, payload, byte span and ledger entry.

        Where the delivered bytes are at hand (``payload``, the source's path, or kept in the lake), the decoded message too.
        """
        file = None if payload is None else Path(payload)
        return provenance.trace(self.store, tool, trace, seq, chamber=chamber, at=at, payload=file)

    def digest(self, tell: Tell = nobody) -> dict[str, str]:
        """Return the order-independent digest of the content."""
        return digest.content_digest(self.store, tell)

    def verify(self, tell: Tell = nobody, *, quick: bool = False, every_feature: bool = False) -> verify.Report:
        """Prove the ledger, the accounts, every file, and features; ``quick``: the chain and the files' sizes alone.

        A sample of the features is computed anew, or all with ``every_feature``.
        """
        return verify.verify(self.store, tell, quick=quick, every_feature=every_feature)


def open(path: Source, *, read_only: bool = False, wait: float = 600.0) -> Lake:
    """Open the lake at ``path``, creating it when absent; ``read_only`` never writes. ``wait``: patience for the lock, seconds."""
    return Lake(path, read_only=read_only, wait=wait)


__all__ = ["Lake", "LoadlockError", "open"]
