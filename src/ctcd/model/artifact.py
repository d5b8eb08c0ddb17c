"""Reading the files of a model, which may be missing, damaged, or of another version."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ctcd.errors import CtcdError, NotFound, Unreachable, UsageError


@contextmanager
def reading(path: Path, wrong: str, *, missing: str = "is missing", hint: str = "train again") -> Iterator[None]:
    """Translate whatever is raised while a file is read, and its content is used, into an error that names the file.

    Content that is wrong can raise anything: the libraries that use it have many errors. Their texts are left out, as
    they may quote the content.

    Args:
        path: file that is read, which the error names.
        wrong: what to say if its content is wrong, such as "is not a model".
        missing: what to say if there is no such file.
        hint: what to do in both cases.

    Raises:
        NotFound: there is no such file.
        Unreachable: it cannot be read now, or there is not enough memory; trying again may help.
        UsageError: its content is wrong.
    """
    try:
        yield
    except CtcdError:
        raise
    except FileNotFoundError as error:
        raise NotFound(missing, where=str(path), hint=hint) from error
    except OSError as error:
        raise Unreachable(f"cannot be read: {error.strerror or type(error).__name__}", where=str(path)) from error
    except MemoryError as error:
        raise Unreachable("cannot be read: there is not enough memory", where=str(path)) from error
    except (Exception, SystemExit) as error:  # a model of an instance may end the process as it loads
        raise UsageError(f"{wrong}: {type(error).__name__}", where=str(path), hint=hint) from error
