"""Scenarios of what is erased or moved on for good: a purge with its bytes, a lake of an older format."""

from __future__ import annotations

import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import loadlock
from ingest.errors import UsageError
from loadlock.lake import actor
from storage.upgrade import upgrade as upgraded
from tests.faults.lakes import LAKE, deliveries, expire_and_sweep, ingest


def keeping(site: Any) -> None:
    """Delivered bytes are kept, and there is a delivery that is older than the others."""
    site.config.write_text(site.config.read_text() + "keep_payloads = true\n")
    deliveries(site)
    ingest(site.folder, "1.csv", "2.csv")


def purge(folder: Path) -> None:
    """Plan, apply, and let the bytes go; what was planned and done before is not done again."""
    with loadlock.open(folder / LAKE) as lake:
        with suppress(UsageError):
            plan = lake.plan("purge", {"before": "2026-03-01T00:17:28", "reason": "retention"})
            lake.apply(plan, confirmed=True)
        expire_and_sweep(lake)


def of_format_1(site: Any) -> None:
    """A lake that an earlier release made."""
    with tarfile.open(Path(__file__).parents[1] / "storage" / "formats" / "1.tar.gz") as archive:
        archive.extractall(site.folder, filter="data")


def upgrade(folder: Path) -> None:
    """Bring it to today's format."""
    upgraded(folder / LAKE, actor=actor(), software="x", wait_s=10)
