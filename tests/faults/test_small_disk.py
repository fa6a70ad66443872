"""A disk of a few MB that is really full: while files are staged, at the commit, in the mirror. Room is made, the same command finishes.

The disk is a tmpfs in a mount namespace of its own (root, or a user namespace). Where neither is allowed a limit on the size of files
stands in for it, which is less: it stops a file that grows, and not the making of one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.faults.nursery import ROOT


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


def test_full_and_then_room_again(tmp_path: Path, note: Any) -> None:
    how = apart()
    child = subprocess.run(
        [*(how or ()), sys.executable, "-m", "tests.faults.small_disk", str(tmp_path), "disk" if how else "limit"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    codes = json.loads(child.stdout)
    assert codes.pop("committed") == 0  # acknowledged: what follows from the commit is made up for later
    assert set(codes.values()) == {5}
    note(means="tmpfs" if how else "RLIMIT_FSIZE", full_at=", ".join([*codes, "committed"]))
