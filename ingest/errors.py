"""Faults of the environment and of the caller: exceptions with the exit code on the class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from storage.errors import LoadlockError


class ConfigError(LoadlockError):
    """The configuration can't be used; the message names file, line and key."""

    exit_code = 2


class UsageError(LoadlockError):
    """The call can't be carried out as it was given."""

    exit_code = 2


class Unreadable(LoadlockError):
    """A delivered file can't be read: it is deferred, its key stays free."""

    exit_code = 3


class MappingMissing(LoadlockError):
    """A mapped column is not in the file: the payload is deferred, its key stays free."""

    exit_code = 3


@contextmanager
def readable(source: str) -> Iterator[None]:
    """Turn what the system says of a file in the ``with`` block into :class:`Unreadable`."""
    try:
        yield
    except OSError as error:
        raise Unreadable(f"{source}: can't be read ({error.strerror or error}); bring it back, and run the same command again") from error
