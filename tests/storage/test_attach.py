"""``attach.sql`` in plain DuckDB: our packages barred, the network denied, statement by statement as database clients send them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import loadlock

ROOT = Path(__file__).parents[2]
MACROS = (ROOT / "docs" / "macros.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```sql\n(.*?)```", MACROS, re.DOTALL)
NAMES = re.findall(r"(?m)^## (\w+)\(", MACROS)

PLAIN = """
import json, socket, sys

class Barred:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] in ("loadlock", "ingest", "storage", "kernels"):
            raise ModuleNotFoundError(f"{name} is barred")

sys.meta_path.insert(0, Barred)
def refuse(*_arguments, **_options):
    raise OSError("no network in this test")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import duckdb

script, whole, queries = open(sys.argv[1], encoding="utf-8").read(), sys.argv[2] == "whole", json.load(sys.stdin)
connection = duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
for statement in [script] if whole else connection.extract_statements(script):
    connection.execute(statement)
print(json.dumps({
    "answers": [[list(row) for row in connection.execute(query).fetchall()] for query in queries],
    "databases": [row[0] for row in connection.execute("select database_name from duckdb_databases() where not internal").fetchall()],
    "loaded": [row[0] for row in connection.execute("select extension_name from duckdb_extensions() where loaded").fetchall()],
}, default=str))
"""


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("attach") / "an analyst's lake"
    with loadlock.open(path) as lake:
        lake.ingest(ROOT / "sample_data" / "deliveries", config=ROOT / "sample_data" / "loadlock.toml")
    return path


def plain(path: Path, way: str, queries: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-I", "-c", PLAIN, str(path / "attach.sql"), way]
    child = subprocess.run(command, input=json.dumps(queries), capture_output=True, text=True, check=False, cwd=path.parent)
    assert child.returncode == 0, child.stderr
    document: dict[str, Any] = json.loads(child.stdout)
    return document


def rounded(rows: list[list[object]]) -> list[str]:
    """Rows without order, to nine digits: threads sum in any order."""
    return sorted(str([f"{value:.9g}" if isinstance(value, float) else value for value in row]) for row in rows)


@pytest.mark.parametrize("way", ["whole", "statement by statement"])
def test_plain_duckdb_has_the_macros_and_gives_their_answers(sample: Path, way: str) -> None:
    assert len(NAMES) >= 9
    assert all(any(f"{name}(" in query for query in EXAMPLES) for name in NAMES)
    found = plain(sample, way, EXAMPLES)
    with loadlock.open(sample, read_only=True) as lake:
        for query, answer in zip(EXAMPLES, found["answers"], strict=True):
            ours = json.loads(json.dumps([list(row) for row in lake.sql(query).fetchall()], default=str))
            assert answer
            assert rounded(answer) == rounded(ours)
    assert set(found["databases"]) >= {"lake"}
    assert {"ducklake", "sqlite_scanner"} <= set(found["loaded"])


def test_the_page_names_every_macro_that_the_script_makes(sample: Path) -> None:
    script = (sample / "attach.sql").read_text(encoding="utf-8")
    made = set(re.findall(r"(?i)create (?:or replace )?(?:temp(?:orary)? )?macro (\w+)\(", script))
    assert set(NAMES) <= made
