"""Looks at the environment and at a lake, offline, and says what to do next."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from loadlock import __version__
from storage import sweeping
from storage.catalog import EXTENSIONS, attach_sql, connect, extension_path
from storage.errors import LoadlockError
from storage.files import write_durably

ROOMS = ("kernels", "storage", "ingest")
REMOTE_FILESYSTEMS = ("nfs", "nfs4", "cifs", "smbfs", "smb3", "9p", "fuse.sshfs")


def examine(lake: Path | None, wait_s: float, *, warm: bool = False) -> dict[str, Any]:
    """Return every check with its state (good, warn, bad), and the next step; ``warm`` compiles the kernels first."""
    checks = [_check("software", "good", f"loadlock {__version__}, Python {platform.python_version()}, {platform.machine()}")]
    checks += [_versions(), *_extensions(), *_owners()]
    if lake is not None:
        checks += _lake(lake, wait_s)
    warmed = _warm(checks) if warm else {}
    bad = [check for check in checks if check["state"] == "bad"]
    return {"schema": 1, **warmed, "checks": checks, "next": _next(bad, checks, lake), "exit_code": bad[0]["exit_code"] if bad else 0}


def _check(name: str, state: str, found: str, exit_code: int = 2) -> dict[str, Any]:
    return {"name": name, "state": state, "found": found} | ({"exit_code": exit_code} if state == "bad" else {})


def _versions() -> dict[str, Any]:
    names = ("duckdb", "numba", "numpy", "polars", "pyarrow", "pydantic")
    return _check("libraries", "good", ", ".join(f"{name} {metadata.version(name)}" for name in names))


def _extensions() -> list[dict[str, Any]]:
    checks = []
    for name in EXTENSIONS:
        try:
            checks.append(_check(f"extension {name}", "good", f"found offline in its wheel ({extension_path(name).name})"))
        except LoadlockError as error:
            checks.append(_check(f"extension {name}", "bad", str(error)))
    if all(check["state"] == "good" for check in checks):
        try:
            connect(prove=True).close()
            checks.append(_check("extensions load", "good", "loaded by path, signatures proven, auto-install off"))
        except Exception as error:  # whatever keeps them from loading is the finding
            checks.append(_check("extensions load", "bad", str(error)))
    return checks


def _warm(checks: list[dict[str, Any]]) -> dict[str, Any]:
    """Compile all kernels that are not in the cache yet, add the check, and return what was done."""
    from kernels.jit import FOLDER
    from kernels.warm import warm

    done = warm()
    compiled = {one.kernel: round(one.seconds, 3) for one in done if one.compiled}
    seconds = round(sum(one.seconds for one in done), 3)
    lost = [name for name in compiled if not any(FOLDER.glob(f"{name.partition(' ')[0]}-*.nbi"))]
    lowered = sum(one.lowered for one in done)
    found = f"{len(compiled)} compiled in {seconds:.1f} s of CPU ({lowered} from bitcode), {len(done) - len(compiled)} found in {FOLDER}"
    if lost:
        checks.append(
            _check("kernels", "bad", f"{FOLDER} takes no files, so each process compiles anew; make it writable or set LOADLOCK_CACHE")
        )
    else:
        checks.append(_check("kernels", "good", found))
    summary = {"folder": str(FOLDER), "seconds": seconds, "compiled": compiled, "lowered": lowered, "found": len(done) - len(compiled)}
    return {"warm": summary}


def _owners() -> list[dict[str, Any]]:
    owners = metadata.packages_distributions()
    strangers = {room: [name for name in owners.get(room, []) if name != "loadlock"] for room in ROOMS}
    return [
        _check(f"package {room}", "warn", f"also owned by {', '.join(names)}: install loadlock in an environment of its own")
        for room, names in strangers.items()
        if names
    ]


def _filesystem(path: Path) -> str:
    best, kind = "", "unknown"
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return kind
    for line in lines:
        _, point, found, *_ = line.split(" ")
        if (str(path).startswith(point.rstrip("/") + "/") or point == "/") and len(point) > len(best):
            best, kind = point, found
    return kind


def _lake(path: Path, wait_s: float) -> list[dict[str, Any]]:
    from storage.store import Store

    try:
        store = Store(path, read_only=True)
    except LoadlockError as error:
        return [_check("lake", "bad", str(error), error.exit_code)]
    checks = [_check("lake", "good", f"{path}, format {store.marker['format_version']}")]
    kind = _filesystem(store.path)
    remote = kind in REMOTE_FILESYSTEMS
    checks.append(_check("file system", "warn" if remote else "good", f"{kind}; locks and SQLite need a local disk" if remote else kind))
    free = os.statvfs(store.path)
    free_bytes = free.f_bavail * free.f_frsize
    checks.append(_check("free space", "warn" if free_bytes < 1 << 30 else "good", f"{free_bytes:,} bytes"))
    named = {Path(row[0]).name for row in store.rows(sweeping.NAMED)}
    orphans = [item for item in (store.data / "main").rglob("*") if item.is_file() and item.name not in named]
    if orphans:
        checks.append(
            _check("orphans", "warn", f"{len(orphans)} files that no snapshot names, of interrupted runs; 'loadlock sweep' removes them")
        )
    script = attach_sql(store.path / "catalog.sqlite", store.data)
    if (store.path / "attach.sql").read_text(encoding="utf-8") != script:
        write_durably(store.path / "attach.sql", script.encode())
        checks.append(_check("attach.sql", "warn", "was out of date (lake or installation moved); written anew"))
    open_spans = store.rows("SELECT count(*) FROM quarantine WHERE state = 'open'")[0][0]
    checks.append(_check("quarantine", "warn" if open_spans else "good", f"{open_spans} spans open"))
    store.close()
    return checks


def _next(bad: list[dict[str, Any]], checks: list[dict[str, Any]], lake: Path | None) -> str:
    if bad:
        return str(bad[0]["found"])
    if lake is None:
        return "loadlock ingest FOLDER --config FILE --lake LAKE"
    if any(check["name"] == "quarantine" and check["state"] == "warn" for check in checks):
        return f"loadlock quarantine list --lake {lake}"
    return f"loadlock status --lake {lake}"
