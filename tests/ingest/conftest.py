"""Lakes to be damaged: tests work on copies."""

from __future__ import annotations

import pytest

import loadlock
from tests.ingest.damaged import Site


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("repair")).deliver()


@pytest.fixture(scope="session")
def compacted(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """All rows lie in data files, those of the lake's own logs too; and the sources are where they were."""
    site = Site(tmp_path_factory.mktemp("repair")).deliver()
    with loadlock.open(site.lake) as lake:
        assert lake.compact(everything=True)
    return site
