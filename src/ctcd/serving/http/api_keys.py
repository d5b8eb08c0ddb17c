"""API keys: which requests are let through."""

import hmac
from collections.abc import Iterable
from hashlib import sha256
from http import HTTPStatus

from pydantic import SecretStr

from ctcd.errors import UsageError
from ctcd.serving.http.problems import Problem
from ctcd.serving.http.routes import API_KEY_HEADER, Access, access
from ctcd.settings import Environment, Settings
from ctcd.urls import is_placeholder, random_bits

HEADER = API_KEY_HEADER.lower().encode()
"""The header as ASGI names it."""
SHORTEST = 16
"""Minimum length of a key, in characters."""
LEAST_BITS = 30
"""Minimum of `random_bits` of a key; one of 16 random bytes, in base64 or hexadecimal, has 75 on average."""


class Keyring:
    """Several valid keys, separated by commas, so that a new one can be distributed before an old one is withdrawn.

    Only their digests are kept; a key is compared with all of them in constant time. An error names the variable.

    Raises:
        UsageError: a key is too short, too easy to guess, a well-known placeholder, or not ASCII.
    """

    def __init__(self, secret: SecretStr, variable: str) -> None:
        keys = [key.strip() for key in secret.get_secret_value().split(",") if key.strip()]
        if any(len(key) < SHORTEST or random_bits(key) < LEAST_BITS or is_placeholder(key) for key in keys):
            raise UsageError(
                f"a key needs at least {SHORTEST} characters that look random",
                where=variable,
                hint="make one: openssl rand -hex 32",
            )
        if any(not key.isascii() for key in keys):
            raise UsageError("a key has ASCII characters only", where=variable)
        self._digests = [sha256(key.encode()).digest() for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def knows(self, key: bytes) -> bool:
        """Return whether a key is valid."""
        given = sha256(key).digest()
        # No short circuit: every key is compared.
        return sum([hmac.compare_digest(given, digest) for digest in self._digests]) > 0


class Guard:
    """Decides whether a request is let through, with the keys of the settings.

    Raises:
        UsageError: there is no key outside of local use, or one is invalid.
    """

    def __init__(self, settings: Settings) -> None:
        api = Keyring(settings.api_keys, "CTCD_API_KEYS")
        metrics = Keyring(settings.metrics_keys, "CTCD_METRICS_KEYS") or api
        self._keys = {Access.OPEN: None, Access.API: api, Access.METRICS: metrics}
        if not api and settings.environment not in (Environment.LOCAL, Environment.CI):
            raise UsageError(
                f"no API key in {settings.environment}",
                where="CTCD_API_KEYS",
                hint="set one or more, separated by commas: openssl rand -hex 32",
            )

    def requires_key(self, path: str) -> bool:
        """Return whether a path requires a key."""
        return bool(self._keys[access(path)])

    def check(self, path: str, headers: Iterable[tuple[bytes, bytes]]) -> Problem | None:
        """Return why a request with these headers of ASGI is refused, or None if it is let through."""
        keys = self._keys[access(path)]
        if not keys:
            return None
        # A missing key is compared like a wrong one.
        if keys.knows(next((value for name, value in headers if name == HEADER), b"")):
            return None
        return Problem(
            HTTPStatus.UNAUTHORIZED,
            f"give a valid key in the header {API_KEY_HEADER}",
            headers={"WWW-Authenticate": "ApiKey"},
        )
