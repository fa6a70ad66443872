"""Runs the slow tests with their full counts and writes benchmarks/results/soak.json: date, machine, counts, seeds.

``python -m benchmarks.soak --scale 0.01 --output /tmp/soak.json`` runs a hundredth of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.measure import machine

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "soak.json"


def soak(scale: float, chosen: list[str]) -> dict[str, Any]:
    """Run the slow tests with ``scale`` times their counts; return what they noted."""
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "notes.json"
        begin = time.monotonic()
        environment = os.environ | {"LOADLOCK_SOAK": str(scale), "LOADLOCK_SOAK_NOTES": str(notes)}
        child = subprocess.run(
            [sys.executable, "-m", "pytest", "-n", "0", "-m", "slow", *(chosen or ["tests"])], cwd=ROOT, env=environment, check=False
        )
        found = json.loads(notes.read_text(encoding="utf-8")) if notes.exists() else []
    return {
        "schema": 1,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine(),
        "scale": scale,
        "passed": child.returncode == 0,
        "minutes": round((time.monotonic() - begin) / 60, 1),
        "tests": found,
    }


def main() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description="the slow tests with their full counts")
    parser.add_argument("--scale", type=float, default=1.0, help="part of the full counts (1)")
    parser.add_argument("--output", type=Path, default=RESULT, help="the result (benchmarks/results/soak.json)")
    parser.add_argument("tests", nargs="*", help="files or folders of tests, if not all")
    options = parser.parse_args()
    if options.scale != 1 and options.output == RESULT:
        parser.error("a part of the counts is no result to keep; name a file of your own with --output")
    result = soak(options.scale, options.tests)
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
