"""Faults of the environment and of the caller: exceptions with the exit code on the class."""

from __future__ import annotations

from storage.errors import LoadlockError


class ConfigError(LoadlockError):
    """The configuration can't be used; the message names file, line and key."""

    exit_code = 2


class UsageError(LoadlockError):
    """The call can't be carried out as it was given."""

    exit_code = 2


class MappingMissing(LoadlockError):
    """A mapped column is not in the file: the payload is deferred, its key stays free."""

    exit_code = 3
