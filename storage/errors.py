"""Faults of the environment: one base class, an exit code on each class, a message that says what to do."""

from __future__ import annotations


class LoadlockError(Exception):
    """Base of every error that loadlock raises on purpose."""

    exit_code = 1


class NoLake(LoadlockError):
    """There is no lake at this place, or its creation was interrupted."""

    exit_code = 2


class NewerLake(LoadlockError):
    """The lake was written by a newer format than this software knows."""

    exit_code = 2


class OlderLake(LoadlockError):
    """The lake has an older format, or its upgrade was interrupted; ``loadlock upgrade`` brings it up."""

    exit_code = 2


class Busy(LoadlockError):
    """The writer lock or a dependency was not to be had in time; nothing is lost, try again."""

    exit_code = 5


class CatalogDown(Busy):
    """The catalog does not answer, or does not take a commit."""


class StoreDown(Busy):
    """The disk or store that holds the data does not take them: nothing of the batch was committed."""


class IntegrityError(LoadlockError):
    """A file, an account or the ledger is not what was recorded."""

    exit_code = 6


class KeyReused(LoadlockError):
    """The idempotency key was used before with other bytes."""

    exit_code = 4


def is_interrupt(error: BaseException) -> bool:
    """Tell whether ``error`` is Ctrl-C: DuckDB has errors of its own for it where it runs a query, and they must not pass for faults."""
    if isinstance(error, RuntimeError):
        return str(error) == "Query interrupted"
    return isinstance(error, KeyboardInterrupt) or type(error).__name__ == "InterruptException"
