"""Starting is cheap: what a warm command imports and proves, and that pandas is nobody's need."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RUN = Callable[..., Any]

PROGRAM = """
import sys, atexit, gc
atexit.register(lambda: print(gc.isenabled(), *sorted({name.split(".")[0] for name in sys.modules}), file=sys.stderr))
from loadlock.cli import entry
entry()
"""

WITHOUT = """
import sys
class Hidden:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name="pandas")
sys.meta_path.insert(0, Hidden)
import loadlock
with loadlock.open(sys.argv[1]) as lake:
    print(lake.ingest(sys.argv[2], config=sys.argv[3]).samples)
    query = "select sum(value) as total from samples"
    totals = {float(lake.sql(query).fetchall()[0][0]), float(lake.sql(query).pl()["total"][0])}
    totals.add(float(lake.sql(query).to_arrow_table()["total"][0].as_py()))
    print(len(totals), lake.verify().faults)
"""


def child(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", *map(str, arguments)], capture_output=True, text=True, check=True, cwd=ROOT)


def test_an_ingest_imports_neither_pandas_nor_polars_and_looks_for_cycles_again(polisher: RUN, tmp_path: Path) -> None:
    site = polisher(tmp_path)
    done = child(PROGRAM, "ingest", site.wafers("1.csv", [1]), "--config", site.config, "--lake", tmp_path / "fab.lake")
    collecting, *modules = done.stderr.splitlines()[-1].split()
    assert collecting == "True"
    assert {"loadlock", "ingest", "pyarrow", "numba"} <= set(modules)
    assert {"pandas", "polars", "rich"}.isdisjoint(modules)


def test_a_lake_needs_no_pandas(polisher: RUN, tmp_path: Path) -> None:
    site = polisher(tmp_path)
    done = child(WITHOUT, tmp_path / "fab.lake", site.wafers("1.csv", [1]), site.config)
    assert done.stdout.splitlines() == ["40", "1 []"]
