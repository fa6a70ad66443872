"""The gate of a change, ``make bench-check``: fails, naming the figure, when something became worse. docs/benchmarks.md says how."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import bench
from benchmarks.gate_sides import ROOT, WORKER, Comparison, Load, Pairs, Side, base_of, checked_out, git, prepare
from benchmarks.gate_worker import STEPS
from benchmarks.goals import COMMITTED, GOALS, REPORTED
from benchmarks.measure import Figure, number

KEPT = ROOT / "benchmarks" / "results" / "gate.json"
SLOWER_MOST = 1.2
"""A figure more times slower than its base is a regression; a clean run shows up to 1.1."""

ROUNDS, ROUNDS_AGAIN = 12, 24
NOISE = 0.3
"""By what share a figure whose floor is known to be missed may be worse than accepted."""

TOLERANCES = {"bytes_vs_default_parquet": 0.02, "bytes_vs_csv_gz": 0.02, "bytes_vs_pcodec": 0.02}
TOLERANCE = 0.1
"""Of committed figures: sizes 2 %, memory 10 %."""


@dataclass(frozen=True)
class Verdict:
    """What is said of one figure; ``failed``: the change must not pass."""

    name: str
    failed: bool
    text: str


# --- judging


def judge_pairs(pairs: Pairs, most: float = SLOWER_MOST) -> Verdict:
    """Judge one figure of the comparison with the base."""
    low, high = pairs.ratios[0], pairs.ratios[-1]
    text = f"{pairs.slower:.3f} x the base's CPU (best {pairs.best:.3f}, median {pairs.median:.3f} of {low:.2f} to {high:.2f})"
    return Verdict(pairs.name, pairs.slower > most, f"{text}; at most {most:g}")


def judge_figure(figure: Figure, kept: Mapping[str, Any]) -> Verdict:
    """Judge one figure of our side alone, by its kind: at its floor or what is known of it, or against the committed figure."""
    goal, value = GOALS[figure.name], figure.value
    if value is None:
        return Verdict(figure.name, False, f"not measured: {figure.note}")
    if goal.gate == REPORTED:
        return Verdict(figure.name, False, f"{number(value)} {goal.unit}, reported only")
    if goal.gate == COMMITTED:
        committed = kept["committed"].get(figure.name)
        if committed is None:
            return Verdict(figure.name, True, f"{number(value)}, and no committed figure")
        limit = worse(committed, TOLERANCES.get(figure.name, TOLERANCE), goal.at_least)
        return Verdict(figure.name, not within(value, limit, goal.at_least), f"{number(value)}; committed {number(committed)}")
    sign = ">=" if goal.at_least else "<="
    if figure.name in kept["known"] and not figure.holds:
        known = kept["known"][figure.name]
        limit = worse(known, NOISE, goal.at_least)
        text = f"{number(value)}; floor {sign} {goal.floor:g} is known to be missed, {number(known)} accepted, {sign} {number(limit)}"
        return Verdict(figure.name, not within(value, limit, goal.at_least), text)
    return Verdict(figure.name, not figure.holds, f"{number(value)}; floor {sign} {goal.floor:g}")


def worse(value: float, share: float, at_least: bool) -> float:
    """Return what is worse than ``value`` by ``share``."""
    return value / (1 + share) if at_least else value * (1 + share)


def within(value: float, limit: float, at_least: bool) -> bool:
    """Tell whether ``value`` is on the right side of ``limit``."""
    return value >= limit if at_least else value <= limit


# --- measuring


@contextmanager
def sides(revision: str, load: Load, script: Path = WORKER) -> Iterator[Comparison]:
    """Check out ``revision`` apart and start both sides; ``script`` is what our side runs."""
    with tempfile.TemporaryDirectory(prefix="loadlock-gate-") as name:
        folder = Path(name)
        source = prepare(folder / "input", load)
        with checked_out(revision, folder / "base") as base:
            comparison = Comparison(
                Side(base, source, folder / "scratch-base", folder / "cache"), Side(ROOT, source, folder / "scratch-ours", None, script)
            )
            try:
                yield comparison
            finally:
                comparison.close()


def compare(comparison: Comparison, steps: Sequence[str] = tuple(STEPS), rounds: int = ROUNDS, again: int = ROUNDS_AGAIN) -> list[Verdict]:
    """Compare both sides; what looks slower is measured ``again`` before it is judged."""
    comparison.warm_up(steps)
    comparison.rounds(rounds)
    doubtful = {name for name, pairs in comparison.pairs.items() if judge_pairs(pairs).failed}
    suspected = [step for step in comparison.repeats if step in doubtful or (step == "ingest" and "write" in doubtful)]
    if suspected:
        print(f"  once more: {', '.join(suspected)}", file=sys.stderr)
        comparison.rounds(again, suspected)
    found = [judge_pairs(pairs) for pairs in comparison.pairs.values()]
    return found + [Verdict(step, False, f"new: the base can't run it ({reason})") for step, reason in comparison.absent.items()]


def alone(kept: Mapping[str, Any], names: Sequence[str] = tuple(bench.PARTS)) -> list[Verdict]:
    """Measure our side by itself, a part that fails twice, and judge its better run."""
    out: list[Verdict] = []
    for name in names:
        found = verdicts(name, kept)
        if any(one.failed for one in found):
            print(f"  once more: {name}", file=sys.stderr)
            again = {one.name: one for one in verdicts(name, kept)}
            found = [again[one.name] if one.failed else one for one in found]
        out += found
    return out


def verdicts(part: str, kept: Mapping[str, Any]) -> list[Verdict]:
    """Measure one part at the gate's sizes and judge its figures."""
    return [judge_figure(one, kept) for one in bench.ordered(bench.measure([part], bench.GATE).figures)]


def accept() -> None:
    """Measure our side by itself, and keep its committed figures and the floors that it misses, be it in one round only."""
    figures = bench.ordered(bench.measure(list(bench.PARTS), bench.GATE).figures)
    kept: dict[str, dict[str, float]] = {"committed": {}, "known": {}}
    for one in figures:
        if one.value is None or GOALS[one.name].gate == REPORTED:
            continue
        if GOALS[one.name].gate == COMMITTED:
            kept["committed"][one.name] = float(f"{one.value:.4g}")
        elif not replace(one, value=one.low if one.at_least else one.high).holds:
            kept["known"][one.name] = float(f"{one.value:.4g}")
    KEPT.write_text(json.dumps({"schema": 1, **kept}, indent=1) + "\n", encoding="utf-8")


def told(title: str, found: Sequence[Verdict]) -> list[str]:
    """Print verdicts; return the names of those that failed."""
    print(f"{title}:")
    for one in found:
        print(f"  {'FAILED' if one.failed else 'ok':<7}{one.name:<30}{one.text}")
    sys.stdout.flush()
    return [one.name for one in found if one.failed]


def main() -> int:
    """Judge the change; return 1 when it must not pass."""
    parser = argparse.ArgumentParser(prog="gate", description=__doc__)
    parser.add_argument("--base", help="revision to compare with")
    parser.add_argument("--accept", action="store_true", help="write gate.json anew instead of judging")
    parser.add_argument("--pairs-only", action="store_true", help="compare with the base only")
    parser.add_argument("--ours", type=Path, default=WORKER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the base's checkout is cleared away
    if options.accept:
        accept()
        return 0
    begin = time.monotonic()
    failed: list[str] = []
    named = options.base or base_of()
    revision = git("rev-parse", "--verify", "--quiet", f"{named}^{{commit}}") if named else None
    if revision is None and options.base:
        raise SystemExit(f"bench: there is no revision {options.base}")
    if revision is None:
        print("no base revision here (a shallow clone?): judged at floors only")
    else:
        with sides(revision, Load(), options.ours) as comparison:
            failed += told(f"against {revision[:12]}", compare(comparison))
    if not options.pairs_only:
        failed += told("by itself", alone(json.loads(KEPT.read_text(encoding="utf-8"))))
    print(f"bench-check: {'worse: ' + ', '.join(failed) if failed else 'nothing became worse'} in {time.monotonic() - begin:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
