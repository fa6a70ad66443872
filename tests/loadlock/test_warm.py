"""``doctor --warm`` leaves nothing to compile, whatever is ingested then."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kernels import lowered
from kernels.jit import FOLDER
from kernels.warm import SIGNATURES, types_of

ROOT = Path(__file__).resolve().parents[2]
EVERY_FORMAT = Path(__file__).with_name("every_format.py")
WARM = """
import sys
from pathlib import Path
from kernels import lowered
lowered.FOLDER = Path(sys.argv[1])
from loadlock.cli import main
sys.exit(main(["doctor", "--warm", "--json"]))
"""


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


@pytest.fixture(scope="module", params=["source", "bitcode"])
def warmed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, list[dict[str, Any]]]:
    """A fresh cache, how many kernels there were in intermediate code, and what two processes said that warmed it at the same time."""
    cache, bitcode = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("bitcode")
    if request.param == "bitcode":
        if lowered.FOLDER.exists():
            shutil.copytree(lowered.FOLDER, bitcode, dirs_exist_ok=True)  # what fits of it is kept
        subprocess.run([sys.executable, "-m", "kernels.lower", bitcode], check=True, cwd=ROOT)
    there = len(list(bitcode.iterdir()))
    command = [sys.executable, "-c", WARM, bitcode]
    children = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment(cache))
        for _ in range(2)
    ]
    ended = [(*child.communicate(timeout=570), child.returncode) for child in children]
    assert [code for _, _, code in ended] == [0, 0], ended
    return cache, there, [json.loads(out)["warm"] for out, _, _ in ended]


def test_two_cold_processes_compile_each_kernel_once(warmed: tuple[Path, int, list[dict[str, Any]]]) -> None:
    cache, there, (one, other) = warmed
    assert there in {0, len(SIGNATURES)}
    assert one["lowered"] + other["lowered"] == there
    assert sorted([*one["compiled"], *other["compiled"]]) == sorted(SIGNATURES)
    assert len(one["compiled"]) + one["found"] == len(other["compiled"]) + other["found"] == len(SIGNATURES)
    assert one["folder"] == other["folder"]
    assert Path(one["folder"]).relative_to(cache).name == FOLDER.name
    assert one["seconds"] + other["seconds"] > 1


def test_ingests_of_every_format_compile_nothing_then(warmed: tuple[Path, int, list[dict[str, Any]]], tmp_path: Path) -> None:
    cache, _, _ = warmed
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
