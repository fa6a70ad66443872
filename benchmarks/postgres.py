"""A PostgreSQL server of our own: made in a folder, reached by a socket in that folder, and stopped again. ``psql`` talks to it."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAMS = Path("/usr/lib/postgresql")
USER = "postgres"
BLOCK_BYTES = 8192
SAMPLING_S = 0.02
TICKS = os.sysconf("SC_CLK_TCK")


class Absent(Exception):
    """PostgreSQL can't be had here; the text says why."""


def programs() -> Path:
    """Return the folder of the newest installed server; raise :class:`Absent`."""
    found = sorted(PROGRAMS.glob("*/bin/initdb"))
    if not found:
        raise Absent(f"no initdb below {PROGRAMS}; it is in the Debian package postgresql")
    if shutil.which("psql") is None:
        raise Absent("psql is not installed")
    return found[-1].parent


def _as_user() -> list[str]:
    """Return the prefix that gives root's privileges up; the server refuses to run with them."""
    if os.geteuid() != 0:
        return []
    try:
        pwd.getpwnam(USER)
    except KeyError:
        raise Absent(f"root has no user '{USER}' to run the server as") from None
    return ["runuser", "-u", USER, "--"]


class Server:
    """A running server: its folder is its socket's too, so nothing listens on the network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self._bin = programs()
        self.version = self._bin.parent.name
        self.peaks_kb: dict[int, int] = {}
        self.processes_most = 0
        self._stop = threading.Event()

    def start(self) -> None:
        """Make the data folder and start; default settings but the socket's place."""
        self.folder.mkdir(parents=True)
        prefix = _as_user()
        if prefix:
            shutil.chown(self.folder, USER)
        self._run([*prefix, str(self._bin / "initdb"), "-D", str(self.data), "-A", "trust", "-U", USER, "-E", "UTF8", "--locale=C.UTF-8"])
        settings = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}'"
        log = self.folder / "log"
        self._run([*prefix, str(self._bin / "pg_ctl"), "-D", str(self.data), "-l", str(log), "-w", "-o", settings, "start"])
        self.pid = int((self.data / "postmaster.pid").read_text(encoding="ascii").split()[0])
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()

    def stop(self) -> None:
        """Stop this server and no other."""
        self._stop.set()
        self._run([*_as_user(), str(self._bin / "pg_ctl"), "-D", str(self.data), "-m", "fast", "-w", "stop"])

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        if done.returncode:
            raise Absent(f"{command[-1] if 'pg_ctl' in ' '.join(command) else 'initdb'} failed: {done.stderr.strip()[-300:]}")

    def command(self) -> list[str]:
        """Return psql's command line; queries follow it."""
        return [str(self._bin / "psql"), "-h", str(self.folder), "-U", USER, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", USER]

    def sql(self, query: str) -> str:
        """Run statements and return what psql prints."""
        return subprocess.run([*self.command(), "-c", query], check=True, capture_output=True, text=True, cwd="/").stdout.strip()

    def explained(self, query: str) -> tuple[int, float]:
        """Return (bytes of the 8 KiB blocks that the query touched, in memory or not; milliseconds of execution)."""
        (plan,) = json.loads(self.sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}"))
        top: dict[str, Any] = plan["Plan"]
        return (top["Shared Hit Blocks"] + top["Shared Read Blocks"]) * BLOCK_BYTES, float(plan["Execution Time"])

    # --- what it costs

    def processes(self) -> list[int]:
        """Return the postmaster and its children."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii").split()
        return [self.pid, *map(int, children)]

    def cpu_s(self) -> float:
        """Return the CPU seconds of all of its processes so far, those that ended included (the postmaster has waited for them)."""
        ticks = 0
        for pid in self.processes():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            except FileNotFoundError:
                continue
            ticks += sum(map(int, fields[11:15] if pid == self.pid else fields[11:13]))
        return ticks / TICKS

    def peak_mb(self) -> float:
        """Return the sum of its processes' peaks; memory that they share counts in each."""
        return sum(self.peaks_kb.values()) / 1024

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLING_S):
            try:
                pids = self.processes()
            except FileNotFoundError:
                return
            self.processes_most = max(self.processes_most, len(pids))
            for pid in pids:
                try:
                    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                for line in lines:
                    if line.startswith("VmHWM"):
                        self.peaks_kb[pid] = int(line.split()[1])


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    """Run a server in ``folder``, which must not exist; raise :class:`Absent` where none can be had."""
    one = Server(folder)
    one.start()
    try:
        yield one
    finally:
        one.stop()
        time.sleep(SAMPLING_S)
        shutil.rmtree(folder)
