"""A drop folder of tables, a lake whose clock the test holds, and circuits that twenty frames are enough for."""

from __future__ import annotations

import json
from datetime import datetime

import loadlock
from ingest.config import Config
from storage.circuits import TOOL, Circuit

HEADER = "TOOL,TIME,A"
ROWS = 40
NOON = datetime(2026, 3, 1, 12)


def config(**circuit):
    """One table a tool (by path), and one with the tools in a column; 20 frames are enough to be judged by."""
    own = {"time": {"column": "TIME", "unit": "s"}, "sensors": ["A"], "key": []}
    return Config.model_validate(
        {
            "sources": [
                {"match": "mixed/*", "format": "table", "table": "mixed"},
                {"match": "{tool}/*", "format": "table", "table": "own"},
            ],
            "tables": {"own": own, "mixed": own | {"tool": {"column": "TOOL"}}},
            "circuit": {"minimum_frames": 20, "cool_down": 60, "cool_down_max": 200, "failures": 3} | circuit,
        }
    )


def rows(first, *, bad=0, tool="X", count=ROWS, offset=0.0):
    """Rows of one second each, the first ``bad`` of them without a readable time."""
    return [f"{tool},{'soon' if i < bad else first + i},{i % 7 + offset}" for i in range(count)]


class Site:
    """A lake, its clock in the test's hands, and a drop folder."""

    def __init__(self, folder):
        self.drop = folder / "drop"
        self.now = NOON
        self.config = config()
        self.lake = loadlock.open(folder / "fab.lake")
        self.lake.store.clock = lambda: self.now

    def put(self, name, lines):
        path = self.drop / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([HEADER, *lines]) + "\n")
        return path

    def ingest(self, *paths, **options):
        return self.lake.ingest_all(list(paths) or self.drop, config=self.config, **options)

    def circuit(self, tool="X"):
        found = {c.tool: c for c in self.lake.store.index.circuits()}
        return found[tool] if tool in found else Circuit(TOOL, tool)

    def state(self, tool="X"):
        return self.circuit(tool).at(us(self.now))

    def entries(self):
        found = self.lake.sql("select action, actor, body from ledger order by seq").fetchall()
        return [(action, actor, json.loads(body)) for action, actor, body in found]


def us(moment):
    return round((moment - datetime(1970, 1, 1)).total_seconds() * 1e6)


def states(summary):
    return [receipt.state for receipt in summary.receipts]


def traces(lake):
    return dict(lake.sql("select tool, count(*) from traces group by all order by all").fetchall())
