"""Reads the limits that stand beside the contract: TOML files, each checked strictly against a pydantic model."""

import tomllib
from collections.abc import Collection
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from credit_score.errors import UsageError

M = TypeVar("M", bound=BaseModel)


def load_limits(
    model: type[M], name: str, path: Path | None = None, *, hint: str = "", unnamed: Collection[str] = ()
) -> M:
    """Return what a TOML file says, by default the one of that name in `contracts`.

    Args:
        model: what the file has to be.
        name: its name in `contracts`.
        path: another file.
        hint: what to do about a wrong limit.
        unnamed: parts of pydantic's places that mean nothing to who wrote the file.

    Raises:
        UsageError: the file cannot be read, is not TOML, or is not what the model says; names key and rule.
    """
    where = str(path) if path else f"contracts/{name}"
    try:
        text = (path or files("contracts") / name).read_text(encoding="utf-8")
        return model.model_validate(tomllib.loads(text))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot be read: {type(error).__name__}", where=where) from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"not TOML: {error}", where=where) from error
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in problem['loc'] if part not in unnamed)}: {problem['msg']}"
            for problem in error.errors(include_url=False)
        ]
        raise UsageError("; ".join(problems), where=where, hint=hint) from error
