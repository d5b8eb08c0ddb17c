"""Errors that a person can act on, each with the exit code of the command line, and the wording of messages."""

import logging
import sys
import threading
import warnings
from pathlib import Path
from traceback import extract_tb


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


def number_of(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, such as "1 row" and "2,000 rows"."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def shown(error: BaseException) -> str:
    """Return what may be shown of an exception: the message of one of ours, class and location of any other.

    The message of another library's exception may contain a password or personal data, so it is not kept anywhere.
    """
    if isinstance(error, CtcdError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"the package {error.name} is not installed"
    frames = extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(Path(__file__).parent)]
    places = dict.fromkeys(f"{frame.filename}:{frame.lineno}" for frame in (*ours[-1:], *frames[-1:]))
    return f"{type(error).__name__} at {', '.join(places)}" if places else type(error).__name__


class _Own(logging.Formatter):
    """Formats records of this package as their message, and those of other libraries as their location."""

    def format(self, record: logging.LogRecord) -> str:
        own = record.name.partition(".")[0] == __package__
        text = record.getMessage() if own else f"{record.name} at {record.pathname}:{record.lineno}"
        if record.exc_info and record.exc_info[1]:
            text += f": {shown(record.exc_info[1])}"
        return f"{record.levelname.lower()}: {text}"


def show_only_our_messages() -> None:
    """Make this process print what nothing has caught or set up otherwise as one line each, by the rule of `shown`.

    That concerns exceptions that end a thread or the process, log records, and warnings of libraries.
    """

    def show(error: BaseException | None) -> None:
        if error is not None and sys.stderr is not None:
            sys.stderr.write(f"error: unexpected {shown(error)}\n")

    sys.excepthook = lambda _kind, error, _trace: show(error)
    threading.excepthook = lambda given: show(given.exc_value)
    sys.unraisablehook = lambda given: show(given.exc_value)
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Own())
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
