"""How a time is shown, by commands and on pages."""

from datetime import UTC, datetime


def moment(given: datetime | str, timespec: str = "seconds") -> str:
    """Return a time in UTC, as the options that take a time read it: 2025-08-31T03:30:05Z; a text is in ISO 8601."""
    known = datetime.fromisoformat(given) if isinstance(given, str) else given
    return f"{known.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=timespec)}Z"
