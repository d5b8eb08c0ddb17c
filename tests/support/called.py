"""Stand-ins that record how a function was called and end the caller, where only what is handed on is the subject."""

import inspect
from collections.abc import Callable
from typing import Any

from ctcd.errors import CtcdError

Calls = list[tuple[str, dict[str, Any]]]


def recording(function: Callable[..., Any], calls: Calls) -> Callable[..., Any]:
    """Return a stand-in that adds the function's name and all its arguments, defaults included, and ends the caller.

    Raises:
        CtcdError: by the stand-in, always.
        TypeError: by the stand-in, if the function does not take these arguments.
    """

    def call(*positional: Any, **named: Any) -> None:
        bound = inspect.signature(function).bind(*positional, **named)
        bound.apply_defaults()
        calls.append((function.__name__, dict(bound.arguments)))
        raise CtcdError("that is all")

    return call
