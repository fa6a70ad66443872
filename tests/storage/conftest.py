"""A lake to maintain."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import loadlock


@pytest.fixture(scope="session")
def lived_in(tmp_path_factory: pytest.TempPathFactory, polisher: Any) -> Path:
    """A lake of several commits to two tools: windows that grow, conflicts, quarantine, gaps that open and close."""
    site = polisher(tmp_path_factory.mktemp("lived_in"))
    rows = site.rows(range(6))
    deliveries = [rows[i : i + 13] for i in range(0, len(rows), 13)][::-1]
    deliveries += [site.rows([0], offset=0.25)[1:2], [*site.rows([9])[:3], "P1,A,soon,W9,ramp,1,1"], site.rows([5], tool="P2", chamber="B")]
    with loadlock.open(site.folder / "fab.lake") as lake:
        for i, delivered in enumerate(deliveries):
            lake.ingest(site.file(f"{i}.csv", delivered), config=site.config)
    folder: Path = site.folder
    return folder


@pytest.fixture
def site(lived_in: Path, tmp_path: Path, polisher: Any) -> Any:
    """A copy of that lake, and of what was delivered to it."""
    shutil.copytree(lived_in, tmp_path, dirs_exist_ok=True)
    site = polisher(tmp_path)
    site.lake = tmp_path / "fab.lake"
    return site
