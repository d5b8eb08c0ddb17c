"""Errors that a person can act on, each with the exit code of the command line."""


class CtcdError(Exception):
    """An expected failure, whose message is one line: what is wrong, where, and what to do about it.

    Args:
        what: what is wrong, with field, value and rule if there are any.
        where: file, table, address or version with the problem.
        hint: how to solve it.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what, self.where, self.hint = what, where, hint
        line = f"{where}: {what}" if where else what
        super().__init__(f"{line} ({hint})" if hint else line)


class UsageError(CtcdError):
    """A setting, an option or a file of the user is invalid."""

    exit_code = 2


class DataRefused(CtcdError):
    """Data breaks the contract, or more of it than the contract allows."""

    exit_code = 3


class GateRefused(CtcdError):
    """The gate refused to promote a model."""

    exit_code = 4


class NotFound(CtcdError):
    """Something that a stage needs does not exist yet: a snapshot, a trained model, a champion."""

    exit_code = 5


class Unreachable(CtcdError):
    """A store, registry or service does not answer."""

    exit_code = 6


class DeploymentBroken(CtcdError):
    """A deployment responds, but not correctly."""

    exit_code = 7
