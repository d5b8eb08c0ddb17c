"""Reading an instance's policies: TOML files, each validated against a pydantic model."""

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ctcd.errors import UsageError

M = TypeVar("M", bound=BaseModel)


class StrictModel(BaseModel):
    """A part of a policy: an unknown key, a value of another type, an infinity or a NaN is an error."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises:
        UsageError: the file cannot be read or is not TOML.
    """
    try:
        if path.exists() and not path.is_file():  # to read a pipe would wait for its writer
            raise UsageError("cannot be read: it is not a regular file", where=str(path))
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot be read: {type(error).__name__}", where=str(path)) from error
    except (ValueError, RecursionError) as error:  # also of a number with thousands of digits, or lists in lists
        raise UsageError(f"not TOML: {error}", where=str(path)) from error


def read_policy(model: type[M], path: Path, *, hint: str = "", unnamed: Collection[str] = ()) -> M:
    """Return the content of a TOML file as a pydantic model.

    `hint` is advice for a file with invalid values. `unnamed` are parts of pydantic's error locations that do not
    occur in the file, such as the tag of a union.

    Raises:
        UsageError: the file cannot be read, is not TOML, or does not match the model; names key and rule.
    """
    try:
        return model.model_validate(read_toml(path))
    except ValidationError as error:
        raise UsageError(in_one_line(error, unnamed), where=str(path), hint=hint) from error


def in_one_line(error: ValidationError, unnamed: Collection[str] = ()) -> str:
    """Return what pydantic found, each with its place.

    The place is those parts of pydantic's location that are not `unnamed`; entries of lists are numbered from 1.
    """
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        parts = [part for part in problem["loc"] if part not in unnamed]
        place = "".join(f" {part + 1}" if isinstance(part, int) else f".{part}" for part in parts).lstrip(". ")
        lines.append(f"{place}: {problem['msg'].removeprefix('Value error, ')}".removeprefix(": "))
    return "; ".join(lines)
