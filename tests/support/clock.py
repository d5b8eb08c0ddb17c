"""A clock that stands still, for the engine's own code."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, tzinfo
from importlib import import_module
from typing import Any
from unittest.mock import patch


class _LikeReal(type):
    """What was made by the real class counts as made by the frozen one."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls.__mro__[1])


@contextmanager
def frozen(now: datetime, *modules: str) -> Iterator[None]:
    """Let `now` be the time in every module of the engine that is imported by now; the machine itself is in UTC.

    Args:
        now: the time, with a time zone.
        modules: modules that are imported first, as commands import theirs only when they run.
    """
    for each in modules:
        import_module(each)

    class FrozenDatetime(datetime, metaclass=_LikeReal):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return now.astimezone(tz) if tz else now.astimezone(UTC).replace(tzinfo=None)

    class FrozenDate(date, metaclass=_LikeReal):
        @classmethod
        def today(cls) -> Any:
            return now.astimezone(UTC).date()

    replaced = {datetime: FrozenDatetime, date: FrozenDate}
    loaded = [module for name, module in list(sys.modules.items()) if name.startswith("ctcd.")]
    changes = [
        patch.object(module, name, replaced[vars(module)[name]])
        for module in loaded
        for name in ("datetime", "date")
        if vars(module).get(name) in replaced
    ]
    for change in changes:
        change.start()
    try:
        yield
    finally:
        for change in changes:
            change.stop()
