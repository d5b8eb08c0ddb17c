"""API keys: who may ask, and who may read the metrics."""

import hmac
from collections.abc import Iterable
from hashlib import sha256
from http import HTTPStatus

from pydantic import SecretStr

from ctcd.errors import UsageError
from ctcd.serving.http.problems import Problem
from ctcd.settings import PLACEHOLDERS, Environment, Settings

HEADER = b"x-api-key"
SHORTEST = 16
"""Characters of a key at least."""
OPEN = frozenset({"/", "/docs.json", "/livez", "/readyz", "/healthz"})
"""Paths that need no key: probes, and the description of the API."""
OPEN_BELOW = "/static_content/"
METRICS = "/metrics"


class Keyring:
    """Several keys that are all good, so that a new one can be handed out before an old one is withdrawn.

    Only their digests are kept; a key is compared with all of them in a time that does not depend on it.

    Args:
        secret: the keys, separated by commas.
        variable: the setting's name, for messages.

    Raises:
        UsageError: a key is short or known to everybody.
    """

    def __init__(self, secret: SecretStr, variable: str) -> None:
        keys = [key.strip() for key in secret.get_secret_value().split(",") if key.strip()]
        if any(len(key) < SHORTEST or key.lower() in PLACEHOLDERS for key in keys):
            raise UsageError(f"a key needs at least {SHORTEST} characters", where=variable)
        if any(not key.isascii() for key in keys):
            raise UsageError("a key has ASCII characters only", where=variable)
        self._digests = [_digest(key.encode()) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def knows(self, key: bytes) -> bool:
        """Return whether it is one of the keys."""
        given = _digest(key)
        # No shortcut: every key is looked at.
        return sum([hmac.compare_digest(given, digest) for digest in self._digests]) > 0


class Guard:
    """Decides whether a request may pass.

    Args:
        settings: the keys, and where the service runs.

    Raises:
        UsageError: there is no key outside local use, or one that cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._api = Keyring(settings.api_keys, "CTCD_API_KEYS")
        self._metrics = Keyring(settings.metrics_keys, "CTCD_METRICS_KEYS") or self._api
        if not self._api and settings.environment not in (Environment.LOCAL, Environment.CI):
            raise UsageError(
                f"no API key in {settings.environment}",
                where="CTCD_API_KEYS",
                hint="set one or more, separated by commas: openssl rand -hex 32",
            )

    def check(self, path: str, headers: Iterable[tuple[bytes, bytes]]) -> Problem | None:
        """Return why a request is refused, or None if it may pass.

        Args:
            path: what is asked for.
            headers: of the request, as ASGI gives them.
        """
        keys = self._metrics if path == METRICS else self._api
        if not keys or path in OPEN or path.startswith(OPEN_BELOW):
            return None
        # A key that was not sent is as wrong as any.
        if keys.knows(next((value for name, value in headers if name == HEADER), b"")):
            return None
        return Problem(
            HTTPStatus.UNAUTHORIZED, "give a valid key in the header X-API-Key", headers={"WWW-Authenticate": "ApiKey"}
        )


def _digest(key: bytes) -> bytes:
    return sha256(key).digest()
