"""Runs the slow tests with their full counts and writes benchmarks/results/soak.json: dates, machine, counts, seeds.

The result is kept test by test, as each ends: ``python -m benchmarks.soak tests/faults/test_bits.py`` runs a part and leaves the other
tests' results as they are, ``--missing`` runs what has no result yet: a run that was ended goes on. ``--scale 0.01 --output FILE`` runs a
hundredth of the counts. The lakes are made where ``TMPDIR`` says; each entry tells the kind of file system.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import machine

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "soak.json"
LOOK_S = 10.0
"""So often is what has ended written down."""


def slow_tests(chosen: Sequence[str]) -> list[str]:
    """Return the node ids of the slow tests."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-m", "slow", "--collect-only", *(chosen or ["tests"])]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if "::" in line]


def short(test: str) -> str:
    """Return a node id as results name it."""
    return test.rpartition("/")[2]


def merged(old: dict[str, Any], new: Sequence[dict[str, Any]], scale: float, known: Sequence[str]) -> dict[str, Any]:
    """Return the result with ``new`` in place of what ``old`` says of the same tests; of another machine or scale nothing is kept.

    ``known``: all slow tests that there are; those without a result are listed.
    """
    here = machine()
    kept = old.get("tests", ()) if (old.get("machine"), old.get("scale")) == (here, scale) else ()
    tests = {entry["test"]: entry for entry in (*kept, *new) if entry["test"] in set(map(short, known))}
    entries = [tests[name] for name in sorted(tests)]
    return {
        "schema": 2,
        "first": min((entry["date"] for entry in entries), default=""),
        "last": max((entry["date"] for entry in entries), default=""),
        "machine": here,
        "scale": scale,
        "passed": all(entry["passed"] for entry in entries),
        "not_run": sorted(set(map(short, known)) - set(tests)),
        "minutes": round(sum(entry["seconds"] for entry in entries) / 60, 1),
        "fault_runs": sum(entry.get("runs", 0) for entry in entries),
        "tests": entries,
    }


def soak(scale: float, chosen: Sequence[str], output: Path, *, missing: bool) -> bool:
    """Run the slow tests with ``scale`` times their counts; ``output`` is written as they end. Return whether all passed.

    With ``missing`` those that have a result already are left out.
    """
    old = json.loads(output.read_text(encoding="utf-8")) if output.exists() else {}
    known = slow_tests([])
    if missing:
        left = set(merged(old, [], scale, known)["not_run"])
        chosen = [test for test in (slow_tests(chosen) if chosen else known) if short(test) in left]
        if not chosen:
            return True
    revision = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    where = subprocess.run(["stat", "-f", "-c", "%T", tempfile.gettempdir()], capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "notes.jsonl"
        environment = os.environ | {"LOADLOCK_SOAK": str(scale), "LOADLOCK_SOAK_NOTES": str(notes)}
        command = [sys.executable, "-m", "pytest", "-n", "0", "-m", "slow", *(chosen or ["tests"])]
        with subprocess.Popen(command, cwd=ROOT, env=environment) as child:
            running = True
            while running:
                try:
                    child.wait(LOOK_S)
                    running = False
                except subprocess.TimeoutExpired:
                    pass
                lines = notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []
                new = [json.loads(line) | {"revision": revision, "file_system": where} for line in lines]
                if new:
                    output.write_text(json.dumps(merged(old, new, scale, known), indent=1) + "\n", encoding="utf-8")
    return child.returncode == 0


def main() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description="the slow tests with their full counts")
    parser.add_argument("--scale", type=float, default=1.0, help="part of the full counts (1)")
    parser.add_argument("--output", type=Path, default=RESULT, help="the result (benchmarks/results/soak.json)")
    parser.add_argument("--missing", action="store_true", help="only what has no result yet")
    parser.add_argument("tests", nargs="*", help="files, folders or names of tests, if not all; the others' results stay")
    options = parser.parse_args()
    if options.scale != 1 and options.output == RESULT:
        parser.error("a part of the counts is no result to keep; name a file of your own with --output")
    return 0 if soak(options.scale, options.tests, options.output, missing=options.missing) else 1


if __name__ == "__main__":
    sys.exit(main())
