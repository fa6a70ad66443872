"""What deploy/ names exists: commands and options, files, variables and metrics; and metrics are written whole."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loadlock
from loadlock.cli import _parser
from loadlock.metrics import METRICS, exposition

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNIT = (DEPLOY / "loadlock-watch@.service").read_text(encoding="utf-8")
IMAGE = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
OPTIONS = "--config fab.toml --metrics fab.prom"
RUN = Callable[..., Any]


def named(text: str) -> set[str]:
    return set(re.findall(r"\bloadlock_[a-z_]+", text))


@pytest.mark.parametrize("file", ["alerts.yml", "grafana.json"])
def test_dashboards_and_rules_name_metrics_that_there_are(file: str) -> None:
    text = (DEPLOY / file).read_text(encoding="utf-8")
    assert named(text)
    assert named(text) <= set(METRICS)
    for name, labels in re.findall(r"\b(loadlock_[a-z_]+)\{([^}]*)\}", text):
        assert set(re.findall(r"(\w+)=~?", labels)) <= set(METRICS[name].labels)


def test_the_dashboard_is_json_with_panels_of_its_own_ids() -> None:
    panels = json.loads((DEPLOY / "grafana.json").read_text(encoding="utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 0
    assert all(target["expr"] for panel in panels for target in panel["targets"])


def test_the_unit_runs_a_command_that_there_is() -> None:
    (line,) = re.findall(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)
    words = shlex.split(line.replace("$LOADLOCK_OPTIONS", OPTIONS).replace("${LOADLOCK_DROP}", "/drop"))
    assert words[0] == "/opt/loadlock/bin/loadlock"
    options = _parser().parse_args(words[1:])
    assert (options.command, options.folder, options.json) == ("watch", "/drop", True)


def test_variables_are_those_that_the_code_reads() -> None:
    code = "".join(
        path.read_text(encoding="utf-8") for room in ("kernels", "storage", "ingest", "loadlock") for path in (ROOT / room).rglob("*.py")
    )
    own = {"LOADLOCK_DROP", "LOADLOCK_OPTIONS"}  # the unit's own
    found = set(re.findall(r"LOADLOCK_[A-Z]+", UNIT + IMAGE)) - own
    assert found
    assert all(f'"{name}"' in code for name in found)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "loadlock-watch@.service"
    unit.write_text(UNIT.replace("/opt/loadlock/bin/loadlock", "/bin/true"), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "loadlock-watch" in line] == []


def test_the_image_copies_what_there_is_and_runs_commands_that_there_are() -> None:
    for line in re.findall(r"^COPY (?!--from)(.*)$", IMAGE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert source == "wheels/" or (ROOT / source).exists(), source
    for room in ("kernels", "storage", "ingest", "loadlock"):
        assert f"COPY {room}/ {room}/" in IMAGE
    (command,) = re.findall(r"^CMD (.*)$", IMAGE, re.MULTILINE)
    _parser().parse_args(json.loads(command))
    (check,) = re.findall(r"^HEALTHCHECK .*CMD (.*)$", IMAGE, re.MULTILINE)
    assert json.loads(check)[0] == "loadlock"
    _parser().parse_args(json.loads(check)[1:])
    (warm,) = re.findall(r"^RUN loadlock (.*)$", IMAGE, re.MULTILINE)
    assert _parser().parse_args(warm.split()).warm


def test_metrics_of_a_batch_job(tmp_path: Path, polisher: RUN, loadlock_command: RUN) -> None:
    site, file = polisher(tmp_path), tmp_path / "fab.prom"
    site.file("1.csv", [*site.rows([0]), *site.rows([0]), *site.rows([1], tool='P"2'), "P1,A,soon,W9,ramp,1,1"])
    arguments = ("ingest", site.drop, "--config", site.config, "--lake", tmp_path / "fab.lake")
    assert loadlock_command(*arguments, "--metrics", file).code == 3
    text = file.read_text(encoding="utf-8")
    lines = set(text.splitlines())
    assert {
        "loadlock_payloads_total 1",
        'loadlock_records_total{outcome="accepted"} 40',
        'loadlock_records_total{outcome="duplicate"} 20',
    } <= lines
    assert {'loadlock_tool_samples{tool="P1"} 40', 'loadlock_tool_samples{tool="P\\"2"} 40', "loadlock_quarantine_spans 1"} <= lines
    assert named(text) <= set(METRICS)
    assert named(text) >= set(METRICS) - {"loadlock_circuit_open"}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    with loadlock.open(tmp_path / "fab.lake", read_only=True) as lake:
        assert "loadlock_samples_total 80" in exposition(lake)
    answer = loadlock_command(*arguments, "--metrics", tmp_path / "nowhere" / "fab.prom")
    assert answer.code == 0  # a pure replay: the data are safe, and it is said that the metrics are not there
    assert "can't be written" in answer.err
