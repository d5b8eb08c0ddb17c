"""Keeps the values of requests out of the logs of a composition."""

import logging
from typing import Any

from bentoml.exceptions import ServiceUnavailable

from ctcd.errors import shown


def hide_values() -> None:
    """Let each log record have class and place of its exception, instead of its text and traceback.

    BentoML logs the exception of every request that it refuses, and the text of a validation error has the values of the
    row or the body. The text of `ServiceUnavailable` is our own.
    """
    make = logging.getLogRecordFactory()

    def hidden(*given: Any, **more: Any) -> logging.LogRecord:
        record = make(*given, **more)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            text = str(error) if isinstance(error, ServiceUnavailable) else shown(error)
            record.msg, record.args, record.exc_info = f"{record.getMessage()}: {text}", (), None
        return record

    logging.setLogRecordFactory(hidden)
