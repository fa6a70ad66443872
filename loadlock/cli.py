"""The command line: arguments in, a call, an exit code out. Only argparse is imported before a command runs."""

from __future__ import annotations

import argparse
import gc
import os
import re
import sys
from collections.abc import Callable
from typing import NoReturn, TypeAlias

from loadlock import __version__

EXIT_CODES = {
    0: "done",
    1: "a bug",
    2: "usage or configuration",
    3: "done, and something was walled off or deferred",
    4: "idempotency key used before with other bytes",
    5: "busy, try again",
    6: "integrity failure",
    7: "approval missing",
    130: "interrupted",
}

_CODES = [f"{code} {meaning}" for code, meaning in EXIT_CODES.items()]
EPILOG = f"exit codes: {'  '.join(_CODES[:4])}\n  {'  '.join(_CODES[4:])}"


Subparsers: TypeAlias = "argparse._SubParsersAction[_Parser]"


class _Parser(argparse.ArgumentParser):
    """Says what was meant, where a command or a choice is misspelt."""

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and exit with 2."""
        found = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if found:
            import difflib

            (given, choices) = found.groups()
            close = difflib.get_close_matches(given, re.findall(r"[\w-]+", choices), 1)
            message = f"{message[: found.start()]}there is no '{given}'; " + (
                f"did you mean '{close[0]}'?" if close else f"there are {choices.replace(chr(39), '')}"
            )
        super().error(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="loadlock",
        description="Ingest semiconductor tool-sensor data exactly once into a lake that DuckDB can query.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"loadlock {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, text: str, example: str, *, lake: bool = True, into: Subparsers | None = None) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = (into or commands).add_parser(
            name, help=text, description=text, epilog=f"example: {example}", formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if lake:
            sub.add_argument("--lake", default=os.environ.get("LOADLOCK_LAKE"), metavar="LAKE", help="the lake's folder (or LOADLOCK_LAKE)")
            sub.add_argument("--wait", type=float, default=600.0, metavar="SECONDS", help="patience for the writer lock (default 600)")
        sub.add_argument("--json", action="store_true", help="print exactly one JSON object")
        return sub

    init = command("init", "create a lake; learn a first configuration", "loadlock init --learn drop/ --config fab.toml --lake fab.lake")
    init.add_argument("--learn", metavar="DIR", help="look at the deliveries in DIR and write a first configuration, commented, to correct")
    init.add_argument("--config", metavar="FILE", help="with --learn: the new file to write (default loadlock.toml)")

    ingest = command("ingest", "ingest files, folders or standard input ('-')", "loadlock ingest drop/ --config fab.toml --lake fab.lake")
    ingest.add_argument("sources", nargs="+", metavar="SOURCE", help="a file, a folder with all below it, or '-' for standard input")
    ingest.add_argument("--config", metavar="FILE", help="configuration; the lake keeps the last one given")
    ingest.add_argument("--tool", help="the tool that the data come from")
    ingest.add_argument("--format", choices=("hsms", "table"), help="the format of the data")
    ingest.add_argument("--key", help="idempotency key of a single payload")
    ingest.add_argument("--jobs", type=int, default=1, metavar="N", help="threads, each with tools of its own (default 1)")
    ingest.add_argument("--metrics", metavar="FILE", help="write Prometheus metrics of the lake to FILE (NAME.prom) afterwards")
    ingest.add_argument("--dry-run", action="store_true", help="decode and decide, write nothing")

    watch = command("watch", "ingest whatever lands in a folder, until stopped", "loadlock watch drop/ --config fab.toml --lake fab.lake")
    watch.add_argument("folder", metavar="DIR", help="the folder, with all below it")
    watch.add_argument("--config", metavar="FILE", help="configuration; the lake keeps the last one given")
    watch.add_argument("--tool", help="the tool that the data come from")
    watch.add_argument("--format", choices=("hsms", "table"), help="the format of the data")
    watch.add_argument("--jobs", type=int, default=1, metavar="N", help="threads, each with tools of its own (default 1)")
    watch.add_argument("--metrics", metavar="FILE", help="write Prometheus metrics of the lake to FILE (NAME.prom) after each batch")
    watch.add_argument("--settle", type=float, default=2.0, metavar="SECONDS", help="a file unchanged for so long is whole (default 2)")
    watch.add_argument("--retry", type=float, default=60.0, metavar="SECONDS", help="when to try again what was put off (default 60)")

    sql = command("sql", "run a query", 'loadlock sql "select tool, count(*) from traces group by all" --lake fab.lake')
    sql.add_argument("query", metavar="QUERY", help="one statement of DuckDB's SQL")
    sql.add_argument("--format", choices=("table", "csv", "json", "jsonl", "parquet", "arrow"), default=None, help="(default table)")
    sql.add_argument("--output", metavar="FILE", help="write to a file instead of standard output")
    sql.add_argument("--as-of", type=int, metavar="SNAPSHOT", help="query the lake as it was at a snapshot")

    command("shell", "an interactive SQL prompt", "loadlock shell --lake fab.lake")
    status = command(
        "status", "tools, last data, rate, lag, gaps, quarantine, circuits, sizes", "loadlock status --watch 5 --lake fab.lake"
    )
    status.add_argument(
        "--watch", nargs="?", type=float, const=2.0, metavar="SECONDS", help="show it anew so often (default 2), until Ctrl-C"
    )

    report = command("report", "write one page to look at, also on paper", "loadlock report --tool ETCH01 -o report.html --lake fab.lake")
    report.add_argument("--tool", help="this tool only")
    report.add_argument("--lot", help="what moved in this lot, against all others")
    report.add_argument("--golden", metavar="LOT", help="the lot that the golden band is made of (default: all but --lot)")
    report.add_argument("-o", "--output", required=True, metavar="FILE", help="where to write the page")

    serve = command("serve", "look at the lake in a browser", "loadlock serve --port 8600 --lake fab.lake")
    serve.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (default: this machine alone)")
    serve.add_argument("--port", type=int, default=8600, metavar="N", help="(default 8600)")
    serve.add_argument("--name", action="append", default=[], metavar="HOST", help="a name that browsers may call it by; may be repeated")
    serve.add_argument("--token-file", metavar="FILE", help="holds the token that others have to give (or LOADLOCK_TOKEN)")

    quarantine = commands.add_parser("quarantine", help="what could not be understood").add_subparsers(
        dest="action", metavar="ACTION", required=True
    )
    listing = command("list", "list quarantined spans", "loadlock quarantine list --lake fab.lake", into=quarantine)
    listing.add_argument("--all", action="store_true", help="replayed ones too")
    show = command("show", "show one span: reason and bytes", "loadlock quarantine show ID --lake fab.lake", into=quarantine)
    show.add_argument("id", metavar="ID", help="as 'quarantine list' names it")
    again = command("replay", "decode spans again", "loadlock quarantine replay --config fab.toml --lake fab.lake", into=quarantine)
    again.add_argument("ids", nargs="*", metavar="ID", help="these spans only (default: all open ones)")
    again.add_argument("--config", metavar="FILE", help="configuration; the lake keeps the last one given")
    export = command(
        "export", "write a span's bytes to a file", "loadlock quarantine export ID --output span.bin --lake fab.lake", into=quarantine
    )
    export.add_argument("id", metavar="ID", help="as 'quarantine list' names it")
    export.add_argument("--output", required=True, metavar="FILE", help="where to write them")
    discard = command(
        "discard", "let the bytes of spans go", 'loadlock quarantine discard ID --reason "noise" --yes --lake fab.lake', into=quarantine
    )
    discard.add_argument("ids", nargs="+", metavar="ID", help="as 'quarantine list' names them")
    discard.add_argument("--reason", required=True, metavar="TEXT", help="why; the ledger keeps it")
    discard.add_argument("--yes", action="store_true", help="confirm it; where the lake trusts keys, 'loadlock plan discard' is the way")

    audit = commands.add_parser("audit", help="the ledger, and its proof").add_subparsers(dest="action", metavar="ACTION", required=True)
    log = command("log", "list ledger entries", "loadlock audit log --lake fab.lake", into=audit)
    log.add_argument("--last", type=int, default=0, metavar="N", help="only the last N")
    proof = command("verify", "prove the chain, the accounts and every file", "loadlock audit verify --lake fab.lake", into=audit)
    proof.add_argument("--quick", action="store_true", help="the chain and the sizes of the files alone")
    proof.add_argument("--all", action="store_true", help="compute all features anew, not a sample")
    proof.add_argument("--checkpoint", metavar="FILE", help="prove, too, that the ledger extends this signed checkpoint")
    proof.add_argument("--signer", metavar="KEY", help="the only public key (text or file) to be believed for it")
    origin = command(
        "trace", "from a sample back to its bytes", "loadlock audit trace --tool ETCH01 --trace 7 --seq 900 --lake fab.lake", into=audit
    )
    origin.add_argument("--tool", required=True, help="the tool")
    origin.add_argument("--trace", required=True, help="TRID, or the name of the table's mapping")
    origin.add_argument("--seq", required=True, type=int, help="sample number")
    origin.add_argument("--chamber", help="this chamber only")
    origin.add_argument("--at", metavar="TIME", help="its time, ISO 8601 (UTC without a zone)")
    origin.add_argument("--payload", metavar="FILE", help="the delivered file, if it is not where it was")
    command("digest", "order-independent digest of the content", "loadlock audit digest --lake fab.lake", into=audit)
    head = command(
        "checkpoint", "sign the ledger's head", "loadlock audit checkpoint --key me.pem --output head.json --lake fab.lake", into=audit
    )
    head.add_argument("--key", required=True, metavar="FILE", help="private key, made by 'loadlock keys new'")
    head.add_argument("--output", metavar="FILE", help="where to write the checkpoint (default: standard output)")

    circuits = commands.add_parser("circuits", help="the breakers of tools").add_subparsers(dest="action", metavar="ACTION", required=True)
    command("list", "list circuits", "loadlock circuits list --lake fab.lake", into=circuits)
    reset = command(
        "reset", "close a circuit by hand", 'loadlock circuits reset ETCH01 --reason "sensor replaced" --lake fab.lake', into=circuits
    )
    reset.add_argument("tool", metavar="TOOL", help="the tool, or the dependency, whose circuit it is")
    reset.add_argument("--reason", required=True, metavar="TEXT", help="why; the ledger keeps it")

    backup = command("backup", "back up catalog and ledger, and the data files", "loadlock backup /backups/monday --data --lake fab.lake")
    backup.add_argument("folder", metavar="DIR", help="a new folder")
    backup.add_argument("--data", action="store_true", help="the data files too (hard links where possible)")
    restore = command(
        "restore", "make a lake from a backup, or a lost catalog from its mirror", "loadlock restore /backups/monday --lake new.lake"
    )
    restore.add_argument("folder", nargs="?", metavar="DIR", help="the backup")
    restore.add_argument("--data", metavar="DIR", help="where the data files are, if not in the backup: the lake, or another backup")
    restore.add_argument("--from-mirror", action="store_true", help="rebuild a lost catalog in place")

    command("upgrade", "bring a lake of an older format to today's, with a backup first", "loadlock upgrade --lake fab.lake")

    undo = command("retract", "undo wrong deliveries", 'loadlock retract PAYLOAD --reason "wrong tool" --lake fab.lake')
    undo.add_argument("payloads", nargs="+", metavar="PAYLOAD", help="payload id or idempotency key")
    undo.add_argument("--reason", required=True, help="why; the ledger keeps it")

    anew = command("reprocess", "decode payloads anew", "loadlock reprocess PAYLOAD --config fab.toml --lake fab.lake")
    anew.add_argument("payloads", nargs="+", metavar="PAYLOAD", help="payload id or idempotency key")
    anew.add_argument("--config", metavar="FILE", help="configuration; the lake keeps the last one given")
    anew.add_argument("--from", dest="files", action="append", default=[], metavar="FILE", help="a delivered file that is not where it was")
    anew.add_argument("--tool", help="the tool that the data come from, where another was named at delivery")
    mend = command("repair", "wall off damage, make up what was lost", "loadlock repair --dry-run --lake fab.lake")
    mend.add_argument("--from", dest="files", action="append", default=[], metavar="FILE", help="a delivered file, or a folder of them")
    mend.add_argument("--dry-run", action="store_true", help="say what would be done, change nothing")

    compact = command("compact", "merge small files of closed days, move rows out of the catalog", "loadlock compact --lake fab.lake")
    compact.add_argument("--all", action="store_true", help="what is not due yet, too")
    expire = command("expire", "let old snapshots go", "loadlock expire --dry-run --lake fab.lake")
    expire.add_argument("--keep-days", type=float, metavar="DAYS", help="keep younger ones (default: as configured, 30)")
    sweep = command("sweep", "remove data files that no snapshot names", "loadlock sweep --dry-run --lake fab.lake")
    sweep.add_argument("--older-than", type=float, metavar="HOURS", help="leave younger ones alone (default: as configured, 24)")
    for maintenance in (compact, expire, sweep):
        maintenance.add_argument("--dry-run", action="store_true", help="say what would be done, change nothing")

    _approval_commands(command, commands)

    keys = commands.add_parser("keys", help="keys that sign checkpoints and approvals").add_subparsers(
        dest="action", metavar="ACTION", required=True
    )
    new = command("new", "make a key: a private file, and the public key printed", "loadlock keys new alice", lake=False, into=keys)
    new.add_argument("name", metavar="NAME", help="whose key it is")
    new.add_argument("--output", metavar="FILE", help="where the private key goes (default NAME.pem)")
    command("list", "list the keys that the lake trusts", "loadlock keys list --lake fab.lake", into=keys)
    trust = command("trust", "trust a public key", "loadlock keys trust alice alice.pub --lake fab.lake", into=keys)
    trust.add_argument("name", metavar="NAME", help="whose key it is")
    trust.add_argument("public", metavar="KEY", help="the public key: ed25519:..., or a file that holds it")
    revoke = command("revoke", "trust a key no longer", "loadlock keys revoke alice --lake fab.lake", into=keys)
    revoke.add_argument("name", metavar="NAME", help="the key's name or id")

    config = commands.add_parser("config", help="check a configuration").add_subparsers(dest="action", metavar="ACTION", required=True)
    check = command("check", "check a configuration file", "loadlock config check fab.toml", lake=False, into=config)
    check.add_argument("file", metavar="FILE", help="the configuration")
    command("schema", "print the JSON Schema, for editors", "loadlock config schema", lake=False, into=config)
    command("show", "print the configuration that the lake keeps", "loadlock config show --lake fab.lake", into=config)

    completion = command("completion", "print a script that lets the shell complete", "loadlock completion bash", lake=False)
    completion.add_argument("shell", choices=("bash", "zsh"), help="bash: source it from ~/.bashrc; zsh: a file _loadlock on fpath")

    doctor = command("doctor", "environment, extensions, health of the lake, what to do next", "loadlock doctor --lake fab.lake")
    doctor.add_argument("--warm", action="store_true", help="compile all kernels now, for images and machines without a network")
    return parser


def _approval_commands(command: Callable[..., argparse.ArgumentParser], commands: Subparsers) -> None:
    """Add the commands that plan, approve and carry out what destroys."""
    plans = commands.add_parser("plan", help="write down exactly what a destructive action would do").add_subparsers(
        dest="action", metavar="ACTION", required=True
    )

    def plan(name: str, text: str, example: str) -> argparse.ArgumentParser:
        sub = command(name, text, f"loadlock plan {example} --output plan.json --lake fab.lake", into=plans)
        sub.add_argument("--reason", required=True, metavar="TEXT", help="why; the ledger keeps it")
        sub.add_argument("--output", metavar="FILE", help="where to write the plan (default: standard output)")
        sub.add_argument("--hours", type=float, metavar="HOURS", help="how long it holds (default: as configured, a week)")
        return sub

    purge = plan("purge", "let the data of a tool, or old data, go for good", 'purge --tool CMP1 --reason "tool retired"')
    purge.add_argument("--tool", help="this tool only")
    since = purge.add_mutually_exclusive_group()
    since.add_argument("--before", metavar="TIME", help="payloads whose last row is older, ISO 8601 (UTC without a zone)")
    since.add_argument("--older-than", type=float, metavar="DAYS", help="payloads whose last row is so many days old")
    discard = plan("discard", "let the bytes of quarantined spans go", 'discard ID --reason "noise"')
    discard.add_argument("ids", nargs="+", metavar="ID", help="as 'quarantine list' names them")
    override = plan("override", "hold a tool's circuit open, or force it closed", 'override ETCH01 --hold --reason "pump swap"')
    override.add_argument("tool", metavar="TOOL", help="the tool whose circuit it is")
    wanted = override.add_mutually_exclusive_group(required=True)
    for name, text in (("hold", "open whatever comes"), ("force", "closed, no delivery is judged"), ("end", "what is in force ends")):
        wanted.add_argument(f"--{name}", dest="override", action="store_const", const=name, help=text)
    override.add_argument(
        "--for", dest="hours_in_force", type=float, metavar="HOURS", help="how long (default: --force a day, --hold no end)"
    )
    override.add_argument("--delivery", metavar="FILE", help="with --force: for this delivered file alone")
    trust = plan("trust", "trust a public key", 'trust dora dora.pub --reason "new shift lead"')
    trust.add_argument("name", metavar="NAME", help="whose key it is")
    trust.add_argument("public", metavar="KEY", help="the public key: ed25519:..., or a file that holds it")
    plan("revoke", "trust a key no longer", 'revoke bob --reason "left"').add_argument("name", metavar="NAME", help="the key's name or id")
    policy = plan("policy", "put the [approval] of a configuration in force", 'policy --config fab.toml --reason "two of three"')
    policy.add_argument("--config", required=True, metavar="FILE", help="the configuration whose [approval] it is")

    approve = command("approve", "sign a plan", "loadlock approve plan.json --key alice.pem --lake fab.lake")
    approve.add_argument("plan", metavar="FILE", help="the plan")
    approve.add_argument("--key", required=True, metavar="FILE", help="private key, made by 'loadlock keys new'")
    approve.add_argument("--output", metavar="FILE", help="where the approval goes (default: beside the plan, PLAN.NAME.approval)")
    apply = command("apply", "carry a plan out", "loadlock apply plan.json plan.json.*.approval --lake fab.lake")
    apply.add_argument("plan", metavar="FILE", help="the plan")
    apply.add_argument("approvals", nargs="*", metavar="FILE", help="its approvals")
    apply.add_argument("--yes", action="store_true", help="confirm it, where the lake trusts no keys")


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    from loadlock import commands

    return commands.run(options)


class _NoPandas:
    """Keeps pandas out of this process: pyarrow imports it where it finds it, no command needs it, and it costs 0.2 s of CPU."""

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> None:
        """Refuse pandas; leave all else to the finders that follow."""
        if name == "pandas":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def entry() -> None:
    """Run as a program."""
    sys.meta_path.insert(0, _NoPandas)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy starts a pool of threads for matrices, of which there are none here
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # the other pools keep what was freed: 30 MB of an ingest's peak
    gc.disable()  # what is imported stays; once that is done (commands.shared.imported) cycles are looked for again
    code = main()
    gc.freeze()  # the collections at the interpreter's end find nothing to look through
    sys.exit(code)


if __name__ == "__main__":
    entry()
