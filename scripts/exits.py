"""An error of ctcd ends a script as it ends a command: one line on standard error, and an exit code that means something."""

from collections.abc import Iterator
from contextlib import contextmanager

from ctcd.cli.output import err
from ctcd.errors import CtcdError


@contextmanager
def explained() -> Iterator[None]:
    """Run the block; an error of ctcd in it ends the process.

    Raises:
        SystemExit: with the exit code of the error.
    """
    try:
        yield
    except CtcdError as error:
        err.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(error.exit_code) from error
