"""URLs with secrets in them: every place where one may be, which values are no secret, and how a URL is shown."""

import math
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

if TYPE_CHECKING:
    from sqlalchemy import URL

HIDDEN = "***"
PLACEHOLDERS = frozenset(
    {"changeme", "changethis", "default", "example", "mlops", "password", "placeholder", "root", "secret"}
)
"""Well-known placeholder secrets, in lower case."""
_SEPARATOR_BITS, _NEXT_BITS = 2, 1.5
"""Bits of a character that is no letter or digit, and of a letter or digit after another of its kind."""
_SECRET_OPTION = re.compile(
    r"pass(?!ive)|pwd|secret|token|credential(?!_kind)|api_?key|^key$|^auth$|^sig$|signature", re.IGNORECASE
)
_LOGIN = re.compile(r"(://|=)[^\s/?#&@:]*:[^\s/?#&@]+@")
"""User and password in a URL of any kind, or in an option that names a server without its scheme."""


def parse(text: str) -> "URL":
    """Parse a URL of a database, a broker, or one of HTTP; of several hosts, as Kafka has, the first.

    Raises:
        ValueError: it is not a URL, or it has an @ that is not written as %40, so that a part of the password would be
            taken for the host; the message does not repeat it.
    """
    # Imported here: shell completion does not wait for it.
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(re.sub(r"^(kafka://[^/?,]*),[^/?]*", r"\1", text))
    except (ArgumentError, ValueError):
        raise ValueError("not an SQLAlchemy URL") from None
    if "@" in (url.host or "") or (url.password is not None and "@" in (url.database or "")):
        raise ValueError("an @ in a user or password has to be written as %40")
    return url


def is_url(text: str, *schemes: str) -> bool:
    """Return whether a text is a URL of one of some schemes, with a host and, if it names a port, one up to 65535.

    Port 0 stands for one that is chosen later, as for the published ports of the stack.
    """
    try:
        parts = urlsplit(text)
        known = (parts.port or 0) >= 0  # of one above 65535 `port` raises
        return known and parts.scheme in schemes and bool(parts.hostname) and not re.search(r"\s", text)
    except ValueError:
        return False


def http_url(host: str, port: int) -> str:
    """Return the URL of a server at a name, an IPv4 address, or an IPv6 address, which is put into brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run_page(ui: str, run_id: str) -> str:
    """Return the address of a run in MLflow's UI, which is at `ui`."""
    return f"{ui}/#/runs/{quote(run_id, safe='')}"


def version_page(ui: str, name: str, version: str) -> str:
    """Return the address of a version of a registered model in MLflow's UI, which is at `ui`."""
    return f"{ui}/#/models/{quote(name)}/versions/{quote(version, safe='')}"


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

    An option may itself be a URL, as the address of a server that speaks S3.

    Raises:
        ValueError: it is no URL.
    """
    url = parse(text)
    options: list[str] = []
    for name, values in url.normalized_query.items():
        for value in values:
            with suppress(ValueError):
                options += [value] if _SECRET_OPTION.search(name) else secrets_in(value)
    token = [str(url.username)] if _is_token(url) else []
    return [*([str(url.password)] if url.password is not None else []), *token, *options]


def shows_secret(text: str) -> bool:
    """Return whether a text that is shown, such as a URL or a name, holds a password or token."""
    found: list[str] = []
    with suppress(ValueError):  # not a URL of a database or of HTTP
        found = secrets_in(text)
    return bool(found or _LOGIN.search(unquote(text)))


def _is_token(url: "URL") -> bool:
    return url.drivername.startswith("http") and bool(url.username) and not url.password


def is_placeholder(secret: str) -> bool:
    """Return whether a secret has no letters but those of well-known placeholders, such as `ChangeMe-1` or `12345678`."""
    left = re.sub(r"[\W\d_]", "", secret.lower())
    for word in sorted(PLACEHOLDERS, key=len, reverse=True):
        left = left.replace(word, "")
    return not left


def random_bits(secret: str) -> float:
    """Estimate how random a secret is, in bits, as somebody guesses it who knows words, sequences and repetitions.

    A letter or digit counts in full where the kind changes between capitals, small letters and digits, and 1.5 bits
    after another one of its kind, as the next letter of a text has about that many (Shannon 1951). Other characters
    only separate words: each counts once. What continues a sequence, or repeats three characters, counts nothing.
    """
    bits, before = 0.0, ""
    for place, character in enumerate(secret):
        start = max(place - 2, 0)
        if secret[start : place + 1] in secret[:place] or (place and abs(ord(character) - ord(secret[place - 1])) <= 1):
            continue
        if not character.isalnum():
            bits += _SEPARATOR_BITS if character not in secret[:place] else 0
            continue
        kind = "0" if character.isdigit() else "A" if character.isupper() else "a"
        bits += _NEXT_BITS if kind == before else math.log2(10 if kind == "0" else 26)
        before = kind
    return bits
