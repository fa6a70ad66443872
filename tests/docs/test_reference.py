"""The reference is what the code says, and leaves nothing out."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from ingest import hsms_reasons, hsms_records, mapping
from ingest.config import Config
from ingest.formats import columnar, delimited
from ingest.meanings import MEANINGS, SHARED, described
from ingest.reasons import REASONS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def reference() -> Any:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_are_up_to_date(reference: Any) -> None:
    stale = [path.name for path, text in reference.pages().items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run 'make docs'"


def test_every_cell_says_something(reference: Any) -> None:
    """Defaults and labels may be empty; what comes first and last may not."""
    for path in reference.pages():
        rows = [line.strip("| ").split(" | ") for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
        assert rows
        assert [row for row in rows if not row[0].strip() or not row[-1].strip() or len(row) < 2] == [], path.name


def test_every_key_of_the_configuration_is_explained() -> None:
    schema = Config.model_json_schema()
    sections = {"Config": schema, **schema["$defs"]}
    keys = {name: set(section["properties"]) for name, section in sections.items() if name not in SHARED}
    assert {name: set(known) for name, known in MEANINGS.items()} == keys
    explained = described(schema)
    for section in (explained, *explained["$defs"].values()):
        assert [key for key, content in section["properties"].items() if not content.get("description")] == []


def literals() -> set[str]:
    """Reasons that stand as texts in calls which make a rejected span."""
    found = set()
    for path in (ROOT / "ingest").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in ("Rejected", "_rejected"):
                found |= {argument.value for argument in node.args[2:3] if isinstance(argument, ast.Constant)}
    return found


def test_every_reason_is_explained_and_every_explained_one_is_given() -> None:
    given = literals()
    assert {"bad_compression", "no_time", "bad_row", "bad_time"} <= given
    given |= {reason for reason, _ in hsms_reasons.REASONS.values()}
    given |= {*hsms_records.WHY.values(), *mapping.REASONS[1:], *delimited.REASONS.values(), *columnar.REASONS.values()}
    assert given == set(REASONS)


def test_exit_codes_are_those_of_the_errors(reference: Any) -> None:
    from loadlock.cli import EXIT_CODES
    from loadlock.commands import COMMANDS, ENDS

    rows = [row.split(" | ") for row in reference.python().splitlines() if row.startswith(("| `storage.", "| `ingest."))]
    assert {"`storage.trust.ApprovalMissing`", "`ingest.errors.ConfigError`"} <= {row[0].lstrip("| ") for row in rows}
    assert {2, 3, 4, 5, 6, 7} <= {int(row[1]) for row in rows} <= set(EXIT_CODES)
    assert {name for names in ENDS.values() for name in names} <= set(COMMANDS)
