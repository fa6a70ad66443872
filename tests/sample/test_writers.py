"""Both writers of traces give the same lake."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

import loadlock

SAMPLE = Path(__file__).parents[2] / "sample_data"


@pytest.fixture(scope="module")
def lakes(tmp_path_factory):
    """The sample's lake by each writer."""
    folder = tmp_path_factory.mktemp("writers")
    opened = {}
    for writer in ("pages", "pyarrow"):
        config = folder / f"{writer}.toml"
        config.write_text((SAMPLE / "loadlock.toml").read_text(encoding="utf-8") + f'\n[lake]\nwriter = "{writer}"\n', encoding="utf-8")
        opened[writer] = loadlock.open(folder / f"{writer}.lake")
        opened[writer].ingest(SAMPLE / "deliveries", config=config)
    yield opened
    for lake in opened.values():
        lake.close()


def creators(lake):
    files = sorted((lake.store.data / "main" / "traces").glob("*.parquet"))
    return {pq.read_metadata(path).created_by.split()[0] for path in files}


def test_the_content_is_the_same(lakes):
    assert lakes["pages"].digest() == lakes["pyarrow"].digest()


def test_both_lakes_verify(lakes):
    assert all(lake.verify().faults == [] for lake in lakes.values())


def test_the_setting_chooses_the_writer(lakes):
    assert creators(lakes["pyarrow"]) == {"parquet-cpp-arrow"}
    assert "loadlock-pages" in creators(lakes["pages"])
