"""What each command does: call the lake, print the answer, return the exit code."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storage.errors import Busy, LoadlockError, NoLake

Command = Callable[[argparse.Namespace], int]


def run(options: argparse.Namespace) -> int:
    """Run the command that ``options`` name; errors go to stderr, their exit code to the caller."""
    name = options.command if not hasattr(options, "action") else f"{options.command} {options.action}"
    try:
        return COMMANDS[name](options)
    except LoadlockError as error:
        print(f"loadlock: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("loadlock: interrupted; nothing half done was kept, the next run goes on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0


def _path(options: argparse.Namespace) -> Path:
    if not options.lake:
        raise NoLake("which lake? give --lake LAKE or set LOADLOCK_LAKE")
    return Path(options.lake)


def _open(options: argparse.Namespace, *, read_only: bool = True) -> Any:
    from loadlock.lake import Lake

    return Lake(_path(options), read_only=read_only, wait=options.wait)


def _print_json(document: object) -> None:
    print(json.dumps(document, ensure_ascii=False, default=str))


def _init(options: argparse.Namespace) -> int:
    from loadlock import __version__
    from loadlock.lake import actor
    from storage.store import create

    made = create(_path(options), actor=actor(), software=__version__, wait_s=options.wait)
    if options.json:
        _print_json({"schema": 1, "lake": str(_path(options)), "created": made})
    else:
        print(f"{_path(options)}: {'created' if made else 'is a lake already'}")
    return 0


def _ingest(options: argparse.Namespace) -> int:
    from kernels.jit import is_cold

    cold = is_cold()  # before any kernel is imported: numba makes the folder then
    from ingest.errors import UsageError
    from ingest.receipts import Summary
    from loadlock.progress import progress

    stdin = "-" in options.sources
    if stdin and len(options.sources) > 1:
        raise UsageError("standard input ('-') can't be mixed with other sources")
    if options.key and (len(options.sources) > 1 or (not stdin and Path(options.sources[0]).is_dir())):
        raise UsageError("--key names one payload; give one file")
    if not stdin:
        for source in options.sources:
            if not Path(source).exists():
                raise UsageError(f"{source}: no such file or folder")
    if cold:
        print("loadlock: compiling the kernels for this machine, once per version; this takes about a minute", file=sys.stderr)
    data = sys.stdin.buffer.read() if stdin else None
    try:
        with _target(options) as lake, progress(options) as report:
            lake.threads(options.jobs)
            summary = lake.ingest_all(
                "stdin" if stdin else options.sources,
                data=data,
                key=options.key,
                tool=options.tool,
                format=options.format,
                config=options.config,
                dry_run=options.dry_run,
                progress=report,
            )
    except Busy as error:
        summary = Summary()
        summary.busy = str(error)
    for line in summary.skipped:
        print(f"loadlock: skipped {line}", file=sys.stderr)
    if summary.busy:
        print(f"loadlock: {summary.busy}", file=sys.stderr)
    return _answer(options, summary)


@contextmanager
def _target(options: argparse.Namespace) -> Iterator[Any]:
    """Yield the lake to ingest into; a dry run where there is none yet gets one that vanishes."""
    if options.dry_run and not (_path(options) / "lake.json").exists():
        with tempfile.TemporaryDirectory(prefix="loadlock-") as folder:
            options = argparse.Namespace(**vars(options) | {"lake": str(Path(folder) / "dry.lake")})
            with _open(options, read_only=False) as lake:
                yield lake
        return
    with _open(options, read_only=False) as lake:
        yield lake


def _answer(options: argparse.Namespace, summary: Any) -> int:
    if options.json:
        _print_json(summary.document())
    else:
        from loadlock.render import receipt

        receipt(summary, options)
    code: int = summary.exit_code
    return code


def _sql(options: argparse.Namespace) -> int:
    from loadlock.output import write_query

    with _open(options) as lake:
        if options.as_of is not None:
            lake.as_of(options.as_of)
        write_query(lake, options.query, options.format or ("json" if options.json else "table"), options.output)
    return 0


def _shell(options: argparse.Namespace) -> int:
    from loadlock.output import write_query

    with _open(options) as lake:
        while True:
            try:
                line = input("loadlock> ")
            except EOFError:
                print()
                return 0
            if line.strip() in ("exit", "quit", ".exit", ".quit"):
                return 0
            if line.strip():
                try:
                    write_query(lake, line, "table", None)
                except LoadlockError as error:
                    print(error, file=sys.stderr)


def _status(options: argparse.Namespace) -> int:
    with _open(options) as lake:
        document = lake.status()
    if options.json:
        _print_json(document)
    else:
        from loadlock.render import overview

        overview(document)
    return 0


QUARANTINE = "quarantine_id, payload_id, tool, start, stop, reason, detail, state"


def _rows(lake: Any, query: str, parameters: list[Any] | None = None) -> list[dict[str, Any]]:
    relation = lake.sql(query, parameters)
    return [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]


def _list(options: argparse.Namespace, title: str, items: list[dict[str, Any]]) -> int:
    if options.json:
        _print_json({"schema": 1, title: items})
    else:
        from loadlock.render import table

        table(items, f"no {title}")
    return 0


def _quarantine_list(options: argparse.Namespace) -> int:
    where = "" if options.all else " WHERE state = 'open'"
    with _open(options) as lake:
        return _list(options, "quarantine", _rows(lake, f"SELECT {QUARANTINE} FROM quarantine{where} ORDER BY payload_id, start"))


def _span(options: argparse.Namespace) -> dict[str, Any]:
    from ingest.errors import UsageError

    with _open(options) as lake:
        found = _rows(lake, f"SELECT {QUARANTINE}, bytes FROM quarantine WHERE quarantine_id = ?", [options.id])
    if not found:
        raise UsageError(f"no quarantine entry '{options.id}'; 'loadlock quarantine list' names them")
    return found[0]


def _quarantine_show(options: argparse.Namespace) -> int:
    span = _span(options)
    if options.json:
        _print_json({"schema": 1, **span, "bytes": bytes(span["bytes"]).hex()})
        return 0
    data = bytes(span.pop("bytes"))
    for name, value in span.items():
        print(f"{name:14} {value}")
    for offset in range(0, min(len(data), 4096), 16):
        piece = data[offset : offset + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
        print(f"{span['start'] + offset:10d}  {piece.hex(' '):47}  {text}")
    if len(data) > 4096:
        print(f"... {len(data) - 4096} more bytes; 'loadlock quarantine export' writes all of them")
    return 0


def _quarantine_export(options: argparse.Namespace) -> int:
    span = _span(options)
    Path(options.output).write_bytes(bytes(span["bytes"]))
    if options.json:
        _print_json({"schema": 1, "quarantine_id": options.id, "output": options.output, "bytes": len(span["bytes"])})
    else:
        print(f"{options.output}: {len(span['bytes'])} bytes of {options.id}")
    return 0


def _quarantine_replay(options: argparse.Namespace) -> int:
    with _open(options, read_only=False) as lake:
        summary = lake.replay(options.ids, config=options.config)
    return _answer(options, summary)


def _audit_log(options: argparse.Namespace) -> int:
    limit = f" ORDER BY seq DESC LIMIT {options.last}" if options.last else ""
    with _open(options) as lake:
        columns = "seq, recorded_at, actor, action, batch_id" + (", body, prev_hash" if options.json else "") + ", hash"
        items = _rows(lake, f"SELECT * FROM (SELECT {columns} FROM ledger{limit}) ORDER BY seq")
    for item in items:
        if "body" in item:
            item["body"] = json.loads(item["body"])
        else:
            item["hash"] = item["hash"][:16]
    return _list(options, "ledger", items)


def _audit_verify(options: argparse.Namespace) -> int:
    with _open(options) as lake:
        report = lake.verify()
    if options.json:
        _print_json(report.document())
    else:
        for fault in report.faults:
            print(f"FAULT {fault}")
        verdict = f"{len(report.faults)} faults" if report.faults else "everything holds"
        print(f"{report.entries} ledger entries, {report.payloads} accounts, {report.files} files, {report.bytes:,} bytes: {verdict}")
    return 6 if report.faults else 0


def _audit_digest(options: argparse.Namespace) -> int:
    with _open(options) as lake:
        parts = lake.digest()
    if options.json:
        _print_json({"schema": 1, **parts})
    else:
        for name, value in parts.items():
            print(f"{name:9} {value}")
    return 0


def _circuits_list(options: argparse.Namespace) -> int:
    with _open(options) as lake:
        return _list(options, "circuits", _rows(lake, "SELECT * FROM circuits ORDER BY tool"))


def _config_check(options: argparse.Namespace) -> int:
    from ingest.config import load

    config = load(Path(options.file))
    if options.json:
        _print_json({"schema": 1, "file": options.file, "digest": config.digest(), "ok": True})
    else:
        counts = f"{len(config.sources)} sources, {len(config.tools)} tools, {len(config.tables)} tables"
        print(f"{options.file}: good ({counts}), digest {config.digest()[:16]}")
    return 0


def _config_schema(_options: argparse.Namespace) -> int:
    from ingest.config import Config

    _print_json(Config.model_json_schema())
    return 0


def _config_show(options: argparse.Namespace) -> int:
    with _open(options) as lake:
        found = _rows(lake, "SELECT digest, body FROM lake.main.configs ORDER BY revision DESC LIMIT 1")
    content = {"digest": found[0]["digest"], "config": json.loads(found[0]["body"])} if found else {"digest": None, "config": None}
    if options.json:
        _print_json({"schema": 1, **content})
    else:
        print(json.dumps(content, indent=2, ensure_ascii=False))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from loadlock.doctor import examine

    document = examine(Path(options.lake) if options.lake else None, options.wait)
    if options.json:
        _print_json(document)
    else:
        for check in document["checks"]:
            print(f"{check['state']:5} {check['name']}: {check['found']}")
        print(f"next: {document['next']}")
    return int(document["exit_code"])


COMMANDS: dict[str, Command] = {
    "init": _init,
    "ingest": _ingest,
    "sql": _sql,
    "shell": _shell,
    "status": _status,
    "quarantine list": _quarantine_list,
    "quarantine show": _quarantine_show,
    "quarantine export": _quarantine_export,
    "quarantine replay": _quarantine_replay,
    "audit log": _audit_log,
    "audit verify": _audit_verify,
    "audit digest": _audit_digest,
    "circuits list": _circuits_list,
    "config check": _config_check,
    "config schema": _config_schema,
    "config show": _config_show,
    "doctor": _doctor,
}
