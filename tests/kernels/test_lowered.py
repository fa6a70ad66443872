"""Intermediate code of kernels, and the cache: whole and fitting files serve, all others are as if they were not there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["gather.count_nulls", "gather.valid_bits", "sequence.find_keys"]
ANSWER = [1, [0b1011], [-1, 0]]

WRITE = """
import sys
from pathlib import Path
from kernels import lower
lower.SIGNATURES = {name: lower.SIGNATURES[name] for name in sys.argv[2:]}
lower.write(Path(sys.argv[1]))
"""
ASK = """
import json, sys
from pathlib import Path
import numpy as np
from kernels import lowered, warm
lowered.FOLDER = Path(sys.argv[1])
warm.SIGNATURES = {name: warm.SIGNATURES[name] for name in sys.argv[2:]}
done = warm.warm()
from kernels.gather import _NULL, count_nulls, valid_bits
from kernels.sequence import find_keys
bits = np.array([5, 7, _NULL, 9], np.int64)
answer = [int(count_nulls(bits)), valid_bits(bits)[0].tolist()]
keys = [np.array(column, np.int64) for column in ([10, 20], [1, 1], [20, 30], [1, 1])]
answer.append(find_keys(*keys).tolist())
print(json.dumps([[one.kernel for one in done if one.compiled], [one.kernel for one in done if one.lowered], answer]))
"""

pytestmark = pytest.mark.skipif("LOADLOCK_TEST_WITHOUT_JIT" in os.environ, reason="this is the run without the jit")


def child(script: str, cache: Path, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"LOADLOCK_CACHE": str(cache)} | variables
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


def ask(folder: Path, cache: Path, **variables: str) -> tuple[list[str], list[str]]:
    """Warm the kernels in a process, with the intermediate code of ``folder``; return those compiled, and those of them from there."""
    done = child(ASK, cache, folder, *NAMES, **variables)
    assert done.returncode == 0, done.stderr
    compiled, lowered, answer = json.loads(done.stdout)
    assert answer == ANSWER
    return compiled, lowered


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Intermediate code of three kernels."""
    folder = tmp_path_factory.mktemp("bitcode")
    done = child(WRITE, folder, folder, *NAMES, NUMBA_CPU_NAME="generic")
    assert done.returncode == 0, done.stderr
    assert len(list(folder.iterdir())) == len(NAMES)
    return folder


def test_what_was_lowered_becomes_machine_code_once(made: Path, tmp_path: Path) -> None:
    assert ask(made, tmp_path) == (NAMES, NAMES)
    assert ask(made, tmp_path) == ([], [])


def test_it_serves_another_cpu_which_has_machine_code_of_its_own(made: Path, tmp_path: Path) -> None:
    for variables in ({}, {"NUMBA_CPU_NAME": "generic"}):
        assert ask(made, tmp_path, **variables) == (NAMES, NAMES)
    for variables in ({}, {"NUMBA_CPU_NAME": "generic"}):
        assert ask(made, tmp_path, **variables) == ([], [])


def test_other_settings_of_numba_compile_from_source_into_a_folder_of_their_own(made: Path, tmp_path: Path) -> None:
    assert ask(made, tmp_path) == (NAMES, NAMES)
    assert ask(made, tmp_path, NUMBA_BOUNDSCHECK="1") == (NAMES, [])


def test_a_cache_that_takes_nothing_does_not_matter(made: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be", encoding="utf-8")
    assert ask(made, tmp_path / "cache") == (NAMES, NAMES)


def edited(**parts: Any) -> Callable[[bytes], bytes]:
    def edit(content: bytes) -> bytes:
        head, _, body = content.partition(b"\n")
        return json.dumps(json.loads(head) | parts).encode() + b"\n" + body

    return edit


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut short": lambda content: content[:-1],
    "a bit of the code flipped": lambda content: content[:-100] + bytes([content[-100] ^ 1]) + content[-99:],
    "no head": lambda content: content.partition(b"\n")[2],
    "of other sources": edited(sources="0123456789abcdef"),
    "of another numba": edited(numba="0.68.0"),
    "of another llvmlite": edited(llvmlite="0.49.0"),
    "of another Python": edited(python="cpython-312-x86_64-linux-gnu"),
    "of another numpy": edited(numpy="1.26"),
    "of another machine": edited(machine=["Linux", "aarch64", "aarch64-unknown-linux-gnu"]),
    "of another format": edited(format=2),
}


def test_a_file_that_is_damaged_or_does_not_fit_is_not_used(made: Path) -> None:
    from kernels import lowered

    for path in made.iterdir():
        content = path.read_bytes()
        assert lowered.unpacked(path.name, content) is not None
        assert {damage: lowered.unpacked(path.name, change(content)) for damage, change in DAMAGES.items()} == dict.fromkeys(DAMAGES)
        assert lowered.unpacked(f"{path.name}x", content) is None  # another kernel's


def test_then_the_source_is_compiled(made: Path, tmp_path: Path) -> None:
    mixed = shutil.copytree(made, tmp_path / "bitcode")
    nulls, bits, _ = (next(mixed.glob(f"{name}-*")) for name in NAMES)
    nulls.write_bytes(bits.read_bytes())
    bits.write_bytes(DAMAGES["a bit of the code flipped"](bits.read_bytes()))
    assert ask(mixed, tmp_path / "cache") == (NAMES, [NAMES[2]])
    shutil.rmtree(mixed)
    assert ask(mixed, tmp_path / "other cache") == (NAMES, [])


def test_the_folder_is_written_anew_where_it_does_not_fit(made: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made, tmp_path / "bitcode")
    nulls, bits, keys = sorted(folder.iterdir())
    before = bits.read_bytes(), keys.stat().st_mtime_ns
    bits.write_bytes(b"{}")
    (folder / "gone.kernel-01234567").touch()
    done = child(WRITE, tmp_path, folder, *NAMES, NUMBA_CPU_NAME="generic")
    assert done.returncode == 0, done.stderr
    assert sorted(folder.iterdir()) == [nulls, bits, keys]
    assert (len(bits.read_bytes()), keys.stat().st_mtime_ns) == (len(before[0]), before[1])


def test_a_damaged_cache_is_compiled_anew(made: Path, tmp_path: Path) -> None:
    assert ask(made, tmp_path) == (NAMES, NAMES)
    index = sorted(tmp_path.rglob("*.nbi"))
    data = sorted(tmp_path.rglob("*.nbc"))
    assert len(index) == len(data) == len(NAMES)
    index[0].write_bytes(b"")
    data[1].write_bytes(data[1].read_bytes()[:-1])
    content = data[2].read_bytes()
    data[2].write_bytes(content[:2000] + bytes([content[2000] ^ 1]) + content[2001:])
    assert ask(made, tmp_path) == (NAMES, NAMES)
    assert ask(made, tmp_path) == ([], [])


KILLED = """
import os, signal
from numba.core.caching import IndexDataCacheFile
from kernels import lowered, sealed
class Killer(sealed.SealedFile):
    def {method}(self, *_):
        os.kill(os.getpid(), signal.SIGKILL)
from kernels import jit
jit.SealedFile = Killer
"""


@pytest.mark.parametrize("method", ["_save_index", "_save_data", "_digest"])
def test_a_process_killed_as_it_compiles_leaves_no_lock_and_nothing_half_done(made: Path, tmp_path: Path, method: str) -> None:
    done = child(KILLED.format(method=method) + ASK, tmp_path, made, *NAMES)
    assert done.returncode == -signal.SIGKILL
    assert ask(made, tmp_path) == (NAMES, NAMES)
    assert ask(made, tmp_path) == ([], [])
