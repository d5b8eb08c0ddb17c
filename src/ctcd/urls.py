"""URLs with secrets in them: every place where one may be, which values are no secret, and how a URL is shown."""

import math
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from sqlalchemy import URL

HIDDEN = "***"
PLACEHOLDERS = frozenset(
    {"changeme", "changethis", "default", "example", "mlops", "password", "placeholder", "root", "secret"}
)
"""Well-known placeholder secrets, in lower case."""
_SECRET_OPTION = re.compile(r"pass|pwd|secret|token|credential|api_?key", re.IGNORECASE)


def parse(text: str) -> "URL":
    """Parse a URL of a database, or one of HTTP.

    Raises:
        ValueError: it is none; the message does not repeat it.
    """
    # Imported here: shell completion does not wait for it.
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError("not an SQLAlchemy URL") from None


def is_url(text: str, *schemes: str) -> bool:
    """Return whether a text is a URL of one of some schemes, with a host and, if it names a port, one that can be."""
    try:
        parts = urlsplit(text)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0 and not re.search(r"\s", text)
    except ValueError:
        return False


def http_url(host: str, port: int) -> str:
    """Return the URL of a server at a name, an IPv4 address, or an IPv6 address, which is put into brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def sqlite_url(file: Path) -> str:
    """Return the URL of a SQLite file, whatever characters its path has."""
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(file)).render_as_string()


def masked(text: str) -> str:
    """Return a URL for messages: without user, which may be a token, password, and the values of options.

    What is not a URL is not shown at all.
    """
    try:
        url = parse(text)
    except ValueError:
        return HIDDEN
    shown = url._replace(username=None, password=None).set(query={})
    options = "&".join(f"{name}={HIDDEN}" for name in sorted(url.query))
    return shown.render_as_string(hide_password=False) + (f"?{options}" if options else "")


def secrets_in(text: str) -> list[str]:
    """Return the secrets of a URL: its password, options that are named like one, and a token in the place of a user.

    Raises:
        ValueError: it is no URL.
    """
    url = parse(text)
    options = [
        value for name, values in url.normalized_query.items() if _SECRET_OPTION.search(name) for value in values
    ]
    token = [str(url.username)] if _is_token(url) else []
    return [*([str(url.password)] if url.password is not None else []), *token, *options]


def _is_token(url: "URL") -> bool:
    return url.drivername.startswith("http") and bool(url.username) and not url.password


def is_placeholder(secret: str) -> bool:
    """Return whether a secret has no letters but those of well-known placeholders, such as `ChangeMe-1` or `12345678`."""
    left = re.sub(r"[\W\d_]", "", secret.lower())
    for word in sorted(PLACEHOLDERS, key=len, reverse=True):
        left = left.replace(word, "")
    return not left


def entropy_bits(secret: str) -> float:
    """Estimate how many bits of a secret have to be guessed: its length times the entropy of its characters.

    Of a text that is repeated, one counts.
    """
    once = secret[: (secret + secret).find(secret, 1)]
    return -sum(count * math.log2(count / len(once)) for count in Counter(once).values())
