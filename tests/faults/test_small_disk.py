"""A disk of a few MB that is really full: while files are staged, at the commit, in the mirror. Room is made, the same command finishes.

The disk is a tmpfs in a mount namespace of its own (root, or a user namespace). Where neither is allowed a limit on the size of files
stands in for it, which is less: it stops a file that grows, and not the making of one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.faults.nursery import ROOT

PLACES = ("payload_read", "mark_made", "begun", "rows_inserted", "files_checked", "mirror_written", "committed", "files_read")
"""Points at which the disk fills up; each is reached by the second delivery, ``files_read`` by the compaction that follows."""


@cache
def apart() -> tuple[str, ...] | None:
    """How to get a mount namespace; None: not at all."""
    for how in (("unshare", "--mount"), ("unshare", "--user", "--map-root-user", "--mount")):
        try:
            tried = subprocess.run([*how, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/mnt"], capture_output=True, check=False)
        except FileNotFoundError:
            return None
        if tried.returncode == 0:
            return how
    return None


@pytest.mark.parametrize("place", PLACES)
def test_full_and_then_room_again(place: str, tmp_path: Path, note: Any) -> None:
    how = apart()
    child = subprocess.run(
        [*(how or ()), sys.executable, "-m", "tests.faults.small_disk", str(tmp_path), place, "disk" if how else "limit"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    answer = json.loads(child.stdout)
    assert answer["exit"] in (0, 5), answer
    note(means="tmpfs" if how else "RLIMIT_FSIZE", full_at=place, **answer)
