"""The house keeps its shape: imports go one way, files stay small, rooms say what they are for, and --help stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("kernels", "storage", "ingest", "loadlock")
"""From the bottom up: each may import itself and those before it."""

KERNEL_LIBRARIES = {"numpy", "numba", "llvmlite"}
"""llvmlite is how numba spells an intrinsic."""

HEAVY = {"numba", "cryptography", "polars", "pyarrow", "duckdb", "pandas", "numpy", "pydantic", "rich", "plotly", "starlette", "uvicorn"}
LINES_MAX = 400
OURS = (*ROOMS, "sample_data", "benchmarks", "tests")


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")) if "__pycache__" not in path.parts]


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, top-level package) of every import in the file, those inside functions and for type checking included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, path.relative_to(ROOT).parts[0] if node.level else str(node.module).split(".")[0]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_imports_upward(room: str) -> None:
    above = {*ROOMS[ROOMS.index(room) + 1 :], "tests", "benchmarks", "sample_data"}
    wrong = [f"{relative(path)}:{line}: {name}" for path in sources(room) for line, name in imported(path) if name in above]
    assert not wrong


def test_kernels_know_numpy_and_numba_only() -> None:
    known = KERNEL_LIBRARIES | sys.stdlib_module_names | {"kernels"}
    wrong = [f"{relative(path)}:{line}: {name}" for path in sources("kernels") for line, name in imported(path) if name not in known]
    assert not wrong


def test_no_file_is_long() -> None:
    lengths = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources(*OURS)}
    assert {path: lines for path, lines in lengths.items() if lines > LINES_MAX} == {}


@pytest.mark.parametrize("package", [path for path in sources(*ROOMS) if path.name == "__init__.py"], ids=relative)
def test_a_package_says_its_purpose_in_one_sentence(package: Path) -> None:
    text = ast.get_docstring(ast.parse(package.read_text(encoding="utf-8")))
    assert text is not None
    sentence = " ".join(text.split("\n\n")[0].split())
    assert sentence.endswith(".")
    assert ". " not in sentence.replace("e.g. ", "").replace("i.e. ", "")


@pytest.mark.parametrize("arguments", [["--help"], ["ingest", "--help"]], ids=" ".join)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = f"""
import sys
from loadlock.cli import main
sys.argv = ["loadlock", *{arguments!r}]
try:
    code = main()
except SystemExit as stop:
    code = stop.code
print(code or 0, *sorted({{name.split(".")[0] for name in sys.modules}}), file=sys.stderr)
"""
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    code, *modules = child.stderr.splitlines()[-1].split()
    assert code == "0"
    assert "loadlock" in child.stdout
    assert HEAVY.isdisjoint(modules)
