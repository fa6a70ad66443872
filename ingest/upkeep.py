"""Hands the configuration's rules and the caller's name to :mod:`storage.maintenance`."""

from __future__ import annotations

from datetime import timedelta

from ingest.intake import Settings
from storage.store import Store
from storage.upkeep import Rules, Upkeep


def keeping(store: Store, settings: Settings, *, wait_s: float, keep_days: float | None = None, guard_hours: float | None = None) -> Upkeep:
    """Return who keeps ``store`` in order and by which rules; what is given comes before the configuration."""
    wanted, lake = settings.config.maintenance, settings.config.lake
    keep = timedelta(days=wanted.keep_days if keep_days is None else keep_days)
    rules = Rules(
        keep=keep,
        keep_all=min(keep, timedelta(hours=wanted.keep_all_hours)),
        guard=timedelta(hours=wanted.guard_hours if guard_hours is None else guard_hours),
        quiet=timedelta(minutes=wanted.quiet_minutes),
        commits=wanted.commits,
        level=lake.compression_level,
        row_group_rows=lake.row_group_rows,
        writer=lake.writer,
    )
    return Upkeep(store, settings.actor, settings.software, settings.new_id, rules, wait_s)
