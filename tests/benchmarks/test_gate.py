"""The gate: what is slower by half is caught, what is the same passes, floors and committed figures hold, a base is found or not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks import gate, gate_sides, gate_worker
from benchmarks.gate import judge_figure, judge_pairs
from benchmarks.gate_sides import Comparison, Load, Pairs, Side
from benchmarks.goals import GOALS, figure

SLOW = Path(__file__).with_name("slow_worker.py")
NOTHING: dict[str, dict[str, float]] = {"committed": {}, "known": {}}

Compare = Callable[[Path], Comparison]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gate_sides.prepare(tmp_path_factory.mktemp("input"), Load(decode_mb=0.5, ingest_mb=0.5, samples=250_000, keys=10_000))


@pytest.fixture
def sides(source: Path, tmp_path: Path) -> Iterator[Compare]:
    made: list[Comparison] = []

    def make(script: Path) -> Comparison:
        base, ours = (
            Side(gate_sides.ROOT, source, tmp_path / name, None, worker) for name, worker in (("a", gate_sides.WORKER), ("b", script))
        )
        made.append(Comparison(base, ours))
        return made[-1]

    yield make
    for comparison in made:
        comparison.close()


def test_a_kernel_that_works_one_and_a_half_times_is_caught(sides: Compare) -> None:
    (found,) = gate.compare(sides(SLOW), ["reduce"], rounds=6, again=6)
    assert found.failed, found.text
    assert found.name == "reduce"


def test_the_same_revision_passes(sides: Compare) -> None:
    (found,) = gate.compare(sides(gate_sides.WORKER), ["reduce"], rounds=6, again=12)
    assert not found.failed, found.text


def test_every_step_runs(sides: Compare) -> None:
    found = gate.compare(sides(gate_sides.WORKER), rounds=1, again=0)
    assert {one.name for one in found} == {"decode_f4", "decode_mixed", "reduce", "keys", "ingest", "write"}
    assert not any("new" in one.text for one in found)


def test_a_step_that_the_base_lacks_is_new(sides: Compare) -> None:
    comparison = sides(gate_sides.WORKER)
    comparison.base.run = lambda step, repeats=1: {"absent": "AttributeError: no such kernel"}  # type: ignore[method-assign]
    (found,) = gate.compare(comparison, ["keys"], rounds=1)
    assert (found.name, found.failed) == ("keys", False)
    assert "no such kernel" in found.text


def test_a_side_must_run_its_own_revision(source: Path, tmp_path: Path) -> None:
    side = Side(tmp_path, source, tmp_path / "scratch")
    try:
        with pytest.raises(SystemExit, match="a side ended"):
            side.run("reduce")
    finally:
        side.close()


def test_the_best_and_the_median_must_agree() -> None:
    once_disturbed = Pairs("a", [(1.0, 1.0), (1.0, 1.6), (1.0, 1.6)])
    lucky_base = Pairs("b", [(1.0, 1.0), (1.0, 1.0), (0.5, 1.0)])
    slower = Pairs("c", [(1.0, 1.5), (1.1, 1.6), (0.9, 1.4)])
    assert [judge_pairs(pairs).failed for pairs in (once_disturbed, lucky_base, slower)] == [False, False, True]


@pytest.mark.parametrize(
    ("value", "known", "failed"),
    [(0.6, {}, False), (0.45, {}, True), (0.45, {"decode_f4_vs_memcpy": 0.45}, False), (0.3, {"decode_f4_vs_memcpy": 0.45}, True)],
)
def test_floors_hold_or_are_known_to_be_missed(value: float, known: dict[str, float], failed: bool) -> None:
    verdict = judge_figure(figure("decode_f4_vs_memcpy", value), NOTHING | {"known": known})
    assert verdict.failed is failed, verdict.text


@pytest.mark.parametrize(("name", "share"), [("bytes_vs_pcodec", 0.02), ("peak_rss_mb", 0.1)])
def test_sizes_and_memory_stay_near_the_committed_figures(name: str, share: float) -> None:
    kept = NOTHING | {"committed": {name: 100.0}}
    assert not judge_figure(figure(name, 100 * (1 + share) - 0.1), kept).failed
    assert judge_figure(figure(name, 100 * (1 + share) + 0.1), kept).failed
    assert judge_figure(figure(name, 1.0), NOTHING).failed


def test_rates_are_reported_only() -> None:
    assert not judge_figure(figure("samples_per_cpu_s", 0.1), NOTHING).failed
    assert "not measured" in judge_figure(figure("dedupe_vs_best_peer", None, "no peers"), NOTHING).text


def test_what_is_kept_names_figures() -> None:
    kept = gate.json.loads(gate.KEPT.read_text(encoding="utf-8"))
    committed = {name for name, goal in GOALS.items() if goal.gate == "committed"}
    assert set(kept["committed"]) == committed
    assert set(kept["known"]) <= set(GOALS) - committed


def commit(folder: Path, name: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, "commit", "-q", "--allow-empty", "-m", name], check=True)
    return gate_sides.git("rev-parse", "HEAD", root=folder) or ""


def test_the_base_is_the_merge_base_or_the_commit_before(tmp_path: Path) -> None:
    assert gate_sides.base_of(tmp_path) is None
    subprocess.run(["git", "init", "-q", "-b", "main", str(tmp_path)], check=True)
    first = commit(tmp_path, "first")
    assert gate_sides.base_of(tmp_path) is None
    second = commit(tmp_path, "second")
    assert gate_sides.base_of(tmp_path) == first
    subprocess.run(["git", "-C", str(tmp_path), "checkout", "-q", "-b", "change"], check=True)
    commit(tmp_path, "third")
    commit(tmp_path, "fourth")
    assert gate_sides.base_of(tmp_path) == second


def test_a_base_is_checked_out_apart_and_removed(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path / "repository")], check=True)
    revision = commit(tmp_path / "repository", "first")
    with gate_sides.checked_out(revision, tmp_path / "base", tmp_path / "repository") as base:
        assert (base / ".git").exists()
    assert not base.exists()
    with pytest.raises(SystemExit, match="can't be checked out"), gate_sides.checked_out("nothing", base, tmp_path / "repository"):
        pass


def test_the_steps_run_under_pytest_benchmark(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "0",
        "--benchmark-disable",
        "-p",
        "no:cacheprovider",
        f"--basetemp={tmp_path / 'base'}",
        "benchmarks",
    ]
    done = subprocess.run(command, check=False, cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert done.stdout.partition(" ")[0].count(".") == len(gate_worker.STEPS)
