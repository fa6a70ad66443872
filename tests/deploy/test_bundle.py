"""The bundle for machines without a network: what is in it, what it refuses, and the whole of it with the network taken away."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kernels.warm import SIGNATURES

ROOT = Path(__file__).resolve().parents[2]
BASE = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"


def run(*command: object, **variables: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {name: str(value) for name, value in variables.items()}
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of our own wheel alone."""
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "empty.lock").write_text("# nothing\n")
    done = run(ROOT / "scripts" / "bundle", folder / "small", PYTHON=sys.executable, LOCK=folder / "empty.lock")
    assert done.returncode == 0, done.stderr
    assert "install.sh" in done.stdout
    return folder / "small"


def test_our_wheel_is_whole_and_named_by_its_hash(small: Path) -> None:
    (wheel,) = (small / "wheels").iterdir()
    names = set(zipfile.ZipFile(wheel).namelist())
    for room in ("kernels", "storage", "ingest", "loadlock"):
        sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / room).rglob("*.py")}
        assert sources <= names
    assert {"storage/views.sql", "storage/macros.sql", "loadlock/py.typed"} <= names
    assert len([name for name in names if name.startswith("kernels/bitcode/")]) == len(SIGNATURES)
    sum_ = run("sha256sum", wheel).stdout.split()[0]
    assert (small / "requirements.txt").read_text().splitlines()[-1].endswith(f"--hash=sha256:{sum_}")


def test_it_leaves_the_source_and_other_folders_alone(small: Path) -> None:
    assert run(ROOT / "scripts" / "bundle", small, PYTHON=sys.executable).returncode == 2
    assert [path.name for path in small.parent.glob(".bundle-*")] == []


def test_it_needs_a_hash_for_every_wheel(tmp_path: Path) -> None:
    (tmp_path / "no-hash.lock").write_text("tzdata==2025.2\n")
    done = run(ROOT / "scripts" / "bundle", tmp_path / "b", PYTHON=sys.executable, LOCK=tmp_path / "no-hash.lock")
    assert done.returncode != 0
    assert "hash" in done.stderr.lower()
    assert not (tmp_path / "b").exists()


def test_a_bundle_that_was_changed_is_not_installed(small: Path, tmp_path: Path) -> None:
    shutil.copytree(small, tmp_path / "bundle")
    with open(next((tmp_path / "bundle" / "wheels").iterdir()), "ab") as file:
        file.write(b"!")
    done = run(tmp_path / "bundle" / "install.sh", tmp_path / "opt", PYTHON=BASE)
    assert done.returncode == 6
    assert "copy it again" in done.stderr
    assert not (tmp_path / "opt").exists()


def test_another_python_or_a_folder_that_is_there_is_refused(small: Path, tmp_path: Path) -> None:
    done = run(small / "install.sh", tmp_path / "opt", PYTHON="/nowhere/python")
    assert (done.returncode, (tmp_path / "opt").exists()) == (2, False)
    (tmp_path / "opt").mkdir()
    done = run(small / "install.sh", tmp_path / "opt", PYTHON=BASE)
    assert done.returncode == 2
    assert "there already" in done.stderr


DENIED = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")


@pytest.mark.slow
def test_it_installs_and_ingests_without_a_network(tmp_path: Path) -> None:
    done = run(ROOT / "scripts" / "bundle", tmp_path / "bundle", PYTHON=sys.executable)
    assert done.returncode == 0, done.stderr
    alone = ["unshare", "-rn"] if shutil.which("unshare") and run("unshare", "-rn", "true").returncode == 0 else []
    print("the network is taken away" if alone else "no unshare here: proxies that lead nowhere, and --no-index")
    done = run(*alone, tmp_path / "bundle" / "install.sh", tmp_path / "opt", PYTHON=BASE, LOADLOCK_CACHE=tmp_path / "cache", **DENIED)
    assert done.returncode == 0, done.stderr
    assert "good  extensions load" in done.stdout
    assert f"{len(SIGNATURES)} from bitcode" in done.stdout
    sample = ROOT / "sample_data"
    command = (tmp_path / "opt" / "bin" / "loadlock", "ingest", sample / "deliveries", "--config", sample / "loadlock.toml")
    done = run(*alone, *command, "--lake", tmp_path / "fab.lake", "--json", LOADLOCK_CACHE=tmp_path / "cache", **DENIED)
    assert done.returncode == 3, done.stderr
    assert done.stderr == ""  # the kernels were compiled at installation
    assert json.loads(done.stdout)["payloads"]["committed"] == 13
