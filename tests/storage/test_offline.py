"""No network: the extensions come from the wheels, and plain DuckDB reads a lake by its attach.sql."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loadlock
from storage.catalog import EXTENSIONS, connect, extension_path

OFFLINE = Path(__file__).with_name("offline.py")
ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("LOADLOCK_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
"""Where compiled kernels are; nothing is fetched to it."""

RUN = Callable[..., Any]

VIEWS = (
    *("traces", "samples", "windows", "features", "events", "gaps", "conflicts", "texts"),
    *("quarantine", "payloads", "ledger", "circuits", "sensors"),
)


def networkless() -> list[str]:
    """The command prefix that takes the network away, where the system allows it."""
    unshare = shutil.which("unshare")
    for flags in (["-n"], ["-rn"]):
        if unshare and subprocess.run([unshare, *flags, "true"], capture_output=True, check=False).returncode == 0:
            return [unshare, *flags]
    return []


def test_a_lake_works_without_network_home_or_a_place_for_extensions(polisher: RUN, tmp_path: Path) -> None:
    site = polisher(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o500)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "LOADLOCK_CACHE": str(CACHE), "LOADLOCK_ACTOR": "tests"}
    command = [*networkless(), sys.executable, str(OFFLINE), tmp_path / "fab.lake", site.wafers("1.csv", [1]), site.config]
    child = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    assert child.returncode == 0, child.stderr
    found = json.loads(child.stdout)
    assert found["samples"] == 40
    assert found["faults"] == []
    assert found["tried"] == []
    assert found["settings"] == {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    assert set(EXTENSIONS) <= set(found["loaded"])
    assert list(home.rglob("*")) == []


def test_extensions_are_files_of_the_pinned_wheels() -> None:
    from importlib.metadata import version

    for name in EXTENSIONS:
        path = extension_path(name)
        assert path.is_file()
        assert f"v{version('duckdb')}" in path.parts
        assert version(f"duckdb-extension-{name.replace('_', '-')}") == version("duckdb")


def test_nothing_else_is_loaded_or_installed_on_demand() -> None:
    import duckdb

    with connect() as connection:
        with pytest.raises(duckdb.Error, match=r"httpfs|autoload|extension"):
            connection.execute("select * from read_csv('http://127.0.0.1:9/x.csv')")
        loaded = {row[0] for row in connection.execute("select extension_name from duckdb_extensions() where loaded").fetchall()}
    assert "httpfs" not in loaded


def test_a_wheel_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    from storage.errors import LoadlockError

    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(LoadlockError, match="duckdb-extension-sqlite-scanner==") as raised:
        extension_path("sqlite_scanner")
    assert raised.value.exit_code == 2


PLAIN = """
import duckdb, json, sys
connection = duckdb.connect()
connection.execute(open(sys.argv[1], encoding="utf-8").read())
views = [row[0] for row in connection.execute(
    "select view_name from duckdb_views() where not internal and database_name <> 'lake'").fetchall()]
counts = {view: connection.execute(f"select count(*) from (select * from {view})").fetchall()[0][0] for view in views}
try:
    connection.execute("delete from lake.main.traces")
    counts["deleted"] = True
except duckdb.Error:
    pass
print(json.dumps([sorted(name for name in sys.modules if name.split(".")[0] in ("loadlock", "storage", "ingest", "kernels")), counts]))
"""


@pytest.mark.parametrize("moved", [False, True], ids=["in its place", "moved"])
def test_plain_duckdb_reads_a_lake_by_its_script(
    moved: bool, polisher: RUN, tmp_path: Path, assert_conserved: RUN, loadlock_command: RUN
) -> None:
    site = polisher(tmp_path)
    path = tmp_path / "a lake's place"
    rows = site.rows([1, 3])
    with loadlock.open(path) as lake:
        assert_conserved(
            lake.ingest(site.file("1.csv", [*rows, *site.rows([1], offset=1.0)[:1], "P1,A,soon,W9,ramp,1,1"]), config=site.config), lake
        )
        expected = {view: lake.sql(f"select count(*) from (select * from {view})").fetchall()[0][0] for view in VIEWS}
    assert expected["traces"] == 80
    assert expected["quarantine"] == expected["gaps"] == 1
    assert expected["conflicts"] == 2
    if moved:
        path = path.rename(tmp_path / "elsewhere")
        assert loadlock_command("doctor", "--lake", path).code == 0
    script = path / "attach.sql"
    child = subprocess.run([sys.executable, "-I", "-c", PLAIN, str(script)], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert child.returncode == 0, child.stderr
    ours, counts = json.loads(child.stdout)
    assert ours == []
    assert {view: counts.get(view) for view in VIEWS} == expected
    assert "deleted" not in counts
    if shutil.which("duckdb"):
        shell = subprocess.run(
            ["duckdb", "-init", str(script), "-csv", "-c", "select count(*) from traces"], capture_output=True, text=True, check=False
        )
        assert "80" in shell.stdout
