"""Structured logging: one JSON object per line on standard output."""

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO

from pydantic_core import to_json

from ctcd.errors import shown
from ctcd.settings import LogLevel

FLUSH_SECONDS = 0.05


class JsonFormatter(logging.Formatter):
    """Formats a log record as a JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info and record.exc_info[1]:
            line["error"] = shown(record.exc_info[1])
        return json.dumps(line)


def configure(level: LogLevel) -> None:
    """Write the log records of this package, from a level on, to standard output as JSON lines."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("ctcd")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(level.upper())


class RequestLog:
    """Writes one line per request; lines are collected for a moment and written together, which makes them cheap."""

    def __init__(self, stream: Callable[[], TextIO], *, enabled: bool) -> None:
        self._stream = stream
        self._enabled = enabled
        self._lines: list[bytes] = []

    def write(self, fields: dict[str, Any]) -> None:
        """Write one line within `FLUSH_SECONDS`; needs a running event loop."""
        if not self._enabled:
            return
        if not self._lines:
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._lines.append(to_json({"time": now, "level": "info", "event": "request", **fields}))

    def flush(self) -> None:
        """Write the collected lines; those that cannot be written, because of a full disk or a closed pipe, are dropped."""
        lines, self._lines = self._lines, []
        if lines:
            stream = self._stream()
            with suppress(OSError):
                stream.write(b"\n".join(lines).decode() + "\n")
                stream.flush()
