"""``doctor --warm`` leaves nothing to compile, whatever is ingested then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kernels.jit import FOLDER
from kernels.warm import SIGNATURES, types_of

ROOT = Path(__file__).resolve().parents[2]
EVERY_FORMAT = Path(__file__).with_name("every_format.py")
WARM = [sys.executable, "-m", "loadlock.cli", "doctor", "--warm", "--json"]


def environment(cache: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "LOADLOCK_CACHE": str(cache), "LOADLOCK_ACTOR": "tests"}


def files(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*") if path.is_file()}


def ingest(folder: Path, cache: Path) -> dict[str, tuple[int, int]]:
    """Ingest every format in a process of its own; return how often each kernel was found in the cache, and how often compiled."""
    folder.mkdir()
    child = subprocess.run(
        [sys.executable, EVERY_FORMAT, folder], capture_output=True, text=True, check=False, cwd=ROOT, env=environment(cache)
    )
    assert child.returncode == 0, child.stderr
    found: dict[str, tuple[int, int]] = json.loads(child.stdout)
    return found


@pytest.fixture(scope="module")
def warmed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A fresh cache, and what two processes said that warmed it at the same time."""
    cache = tmp_path_factory.mktemp("cache")
    children = [
        subprocess.Popen(WARM, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment(cache))
        for _ in range(2)
    ]
    ended = [(*child.communicate(timeout=570), child.returncode) for child in children]
    assert [code for _, _, code in ended] == [0, 0], ended
    return cache, [json.loads(out)["warm"] for out, _, _ in ended]


def test_two_cold_processes_compile_each_kernel_once(warmed: tuple[Path, list[dict[str, Any]]]) -> None:
    cache, (one, other) = warmed
    assert sorted([*one["compiled"], *other["compiled"]]) == sorted(SIGNATURES)
    assert len(one["compiled"]) + one["found"] == len(other["compiled"]) + other["found"] == len(SIGNATURES)
    assert one["folder"] == other["folder"]
    assert Path(one["folder"]).relative_to(cache).name == FOLDER.name
    assert one["seconds"] + other["seconds"] > 1


def test_ingests_of_every_format_compile_nothing_then(warmed: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    cache, _ = warmed
    before = files(cache)
    used = ingest(tmp_path / "site", cache)
    assert {name: count for name, (_, count) in used.items() if count} == {}
    assert {name: found for name, (found, _) in used.items()} == Counter(name.partition(" ")[0] for name in SIGNATURES)  # all are needed
    assert files(cache) == before


def test_signatures_are_numpy_codes_and_shapes() -> None:
    types = types_of("const u1[], i8, ?, f8[,,]")
    assert [str(one) for one in types] == ["readonly array(uint8, 1d, C)", "int64", "bool", "array(float64, 3d, C)"]


def test_a_cache_that_takes_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be", encoding="utf-8")
    script = """
import sys
from kernels import warm
warm.SIGNATURES = {"gather.count_nulls": "i8[]"}
from loadlock.cli import main
sys.exit(main(["doctor", "--warm", "--json"]))
"""
    child = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT, env=environment(tmp_path / "cache")
    )
    assert child.returncode == 2, child.stderr
    document = json.loads(child.stdout)
    assert list(document["warm"]["compiled"]) == ["gather.count_nulls"]
    assert "LOADLOCK_CACHE" in document["next"]
