"""Lakes for the tests of the command line: one to look at, and one to copy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loadlock

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, polisher: Any, assert_conserved: Run) -> Any:
    """A polisher with a lake that holds a delivery, a conflict, a duplicate, a gap and a quarantined row. Read only."""
    site = polisher(tmp_path_factory.mktemp("site"))
    rows = site.rows(range(2))
    site.file("1.csv", rows)
    site.file("2.csv", [*rows[:1], *site.rows([0], offset=0.25)[1:2], "P1,A,soon,W9,ramp,1,1", *site.rows([3])])
    site.lake = site.folder / "fab.lake"
    with loadlock.open(site.lake) as lake:
        assert_conserved(lake.ingest(site.drop, config=site.config), lake)
    return site


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, polisher: Any, assert_conserved: Run) -> Path:
    """A lake that holds one delivery of two wafers."""
    site = polisher(tmp_path_factory.mktemp("template"))
    with loadlock.open(site.folder / "fab.lake") as lake:
        assert_conserved(lake.ingest(site.wafers("1.csv", range(2)), config=site.config), lake)
    return site.folder / "fab.lake"


@pytest.fixture
def copy(tmp_path: Path, polisher: Any, template: Path) -> Any:
    """A polisher with a copy of that lake of its own (lakes may be moved)."""
    site = polisher(tmp_path)
    site.lake = tmp_path / "fab.lake"
    shutil.copytree(template, site.lake)
    site.first = site.wafers("1.csv", range(2))
    return site
