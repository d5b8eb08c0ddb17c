"""Errors that a person can act on, each with the exit code that the command line ends with."""


class CtcdError(Exception):
    """An expected failure: one line that names what is wrong, where, and what to do about it.

    Args:
        what: what is wrong, with field, value and rule where there are any.
        where: file, table, address or version that it was found in.
        hint: what to do.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what, self.where, self.hint = what, where, hint
        line = f"{where}: {what}" if where else what
        super().__init__(f"{line} ({hint})" if hint else line)


class UsageError(CtcdError):
    """A setting, option or file given by the user cannot be used."""

    exit_code = 2


class DataRefused(CtcdError):
    """Data broke the contract beyond what it allows."""

    exit_code = 3


class GateRefused(CtcdError):
    """The gate refused to promote a model."""

    exit_code = 4


class NotFound(CtcdError):
    """Something that a stage needs is not there yet: a snapshot, a trained model, a champion."""

    exit_code = 5


class Unreachable(CtcdError):
    """A store, registry or service does not answer."""

    exit_code = 6


class DeploymentBroken(CtcdError):
    """A deployment answers, but not as it should."""

    exit_code = 7
