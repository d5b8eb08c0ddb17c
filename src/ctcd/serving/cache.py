"""A cache of predictions by row; docs/patterns.md says when it is worthwhile."""

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import blake2b
from threading import Lock
from typing import Any, Protocol

import pandas as pd
from pydantic_core import from_json, to_json

from ctcd.errors import UsageError, shown
from ctcd.model.scorer import Predictions, Scorer
from ctcd.model.served import Served
from ctcd.serving.metrics import Metrics
from ctcd.settings import IN_MEMORY, Settings

logger = logging.getLogger(__name__)

FORMAT = 1
"""Version of the stored format; part of each key."""
SEAL_BYTES = 8
"""Length of the checksum at the end of a stored answer; an answer that does not match its key is a miss."""
WAIT_SECONDS = 0.05
"""Timeout of the server, which bounds the delay of a request."""
PAUSE_SECONDS = 5.0
"""How long a server is not used after it failed or timed out."""
MAX_WRITES = 64
"""Writes that may be queued for a server; further answers are not cached."""
PIECE = 100
"""Answers per call of a write, so that a read waits for at most that many."""


class Cache(Protocol):
    """A thread-safe store of answers; it never raises because of damaged entries or an unreachable server."""

    def read(self, keys: list[bytes]) -> list[bytes | None]:
        """Return the entry of each key, or None."""

    def write(self, answers: dict[bytes, bytes]) -> None:
        """Store answers by key."""


class Memory:
    """Caches answers in the worker's memory: at most `entries`; the least recently used is evicted first.

    Args:
        seconds: time until an answer expires.
    """

    def __init__(self, entries: int, seconds: float) -> None:
        from cachetools import TTLCache

        self._kept: TTLCache[bytes, bytes] = TTLCache(entries, seconds)
        self._lock = Lock()

    def read(self, keys: list[bytes]) -> list[bytes | None]:
        """Return the entry of each key, or None."""
        with self._lock:
            return [self._kept.get(key) for key in keys]

    def write(self, answers: dict[bytes, bytes]) -> None:
        """Store answers by key."""
        with self._lock:
            self._kept.update(answers)


class Server:
    """Caches answers in a Valkey or Redis server, for all workers and replicas.

    Reads run in a thread with a timeout that includes name resolution; writes run in another thread, so that no read
    waits for one. A server that fails or times out is not used for a while: all rows are misses then.

    Args:
        seconds: time until an answer expires.

    Raises:
        UsageError: the package `redis` is not installed, or the URL cannot be used.
    """

    def __init__(self, url: str, seconds: float, metrics: Metrics) -> None:
        try:
            from redis import Redis
            from redis.backoff import NoBackoff
            from redis.exceptions import RedisError
            from redis.retry import Retry
        except ImportError as error:
            raise UsageError(
                "a cache in a server needs the package redis", where="CTCD_CACHE_URL", hint="install ctcd[cache]"
            ) from error
        try:
            self._client = Redis.from_url(
                url, socket_timeout=WAIT_SECONDS, socket_connect_timeout=WAIT_SECONDS, retry=Retry(NoBackoff(), 0)
            )
            self._client.connection_pool.make_connection()  # does not connect, but checks the options of the URL
        except (RedisError, TypeError, ValueError) as error:  # its text may contain a part of a password
            raise UsageError(
                "the URL cannot be used", where="CTCD_CACHE_URL", hint="check what follows its host"
            ) from error
        self._milliseconds = int(seconds * 1_000)
        self._failed = metrics.cache_failed
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cache")
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cache-write")
        self._resume = 0.0
        self._writes: list[Future[None]] = []

    def read(self, keys: list[bytes]) -> list[bytes | None]:
        """Return the entry of each key, or None; no entries if the server does not answer in time."""
        if time.monotonic() >= self._resume:
            asked: Future[Any] = self._reader.submit(self._client.mget, keys)
            try:
                found: list[bytes | None] = list(asked.result(WAIT_SECONDS))
                if len(found) == len(keys):
                    return found
                self._pause("a reply of another length")
            except Exception as error:  # noqa: BLE001 - a cache that fails in whatever way fails no request
                # A read that can be cancelled was still queued behind another one, which reports the server itself.
                if not asked.cancel():
                    self._pause(shown(error))
        return [None] * len(keys)

    def write(self, answers: dict[bytes, bytes]) -> None:
        """Store answers by key, asynchronously; they are dropped if too many writes are queued."""
        self._writes = [each for each in self._writes if not each.done()]
        if time.monotonic() >= self._resume and len(self._writes) < MAX_WRITES:
            self._writes.append(self._writer.submit(self._write, list(answers.items())))

    def _write(self, answers: list[tuple[bytes, bytes]]) -> None:
        try:
            for start in range(0, len(answers), PIECE):
                if time.monotonic() < self._resume:
                    return
                with self._client.pipeline(transaction=False) as pipeline:
                    for key, answer in answers[start : start + PIECE]:
                        pipeline.set(key, answer, px=self._milliseconds)
                    pipeline.execute()
        except Exception as error:  # noqa: BLE001 - as above
            self._pause(shown(error))

    def _pause(self, reason: str) -> None:
        self._resume = time.monotonic() + PAUSE_SECONDS
        self._failed()
        logger.warning("the cache server failed, and is not used for %g s: %s", PAUSE_SECONDS, reason)


@dataclass(frozen=True, kw_only=True)
class CachedScorer(Scorer):
    """A scorer that computes only the rows that are not in its cache; data frames are never cached.

    Args:
        version: part of each key that identifies the model, so that no version returns another's answer.
    """

    cache: Cache
    version: bytes
    metrics: Metrics

    def predict(self, rows: pd.DataFrame | Sequence[Mapping[str, object]]) -> Predictions:
        """Return class, confidence and probabilities of each row; see `Scorer`."""
        if isinstance(rows, pd.DataFrame):
            return super().predict(rows)
        keys = [self._key(row) for row in rows]
        answers = [self._opened(key, kept) for key, kept in zip(keys, self.cache.read(keys), strict=True)]
        missing = [place for place, answer in enumerate(answers) if answer is None]
        self.metrics.cached(len(rows) - len(missing), len(missing))
        if missing:
            computed = super().predict([rows[place] for place in missing])
            for place, best, row in zip(missing, computed.classes, computed.probabilities, strict=True):
                answers[place] = (best, row)
            self.cache.write({keys[place]: self._sealed(keys[place], answers[place]) for place in missing})
        found = [answer for answer in answers if answer is not None]
        return Predictions(
            classes=[best for best, _ in found],
            confidences=[row[self.classes.index(best)] for best, row in found],
            probabilities=[row for _, row in found],
            class_order=self.classes,
        )

    def _key(self, row: Mapping[str, object]) -> bytes:
        # The columns that the model reads, in the order of the contract; their types are the contract's.
        digest = blake2b(self.version, digest_size=16)
        digest.update(to_json([row[name] for name in self.inputs]))
        return b"ctcd:%b" % digest.hexdigest().encode()

    def _sealed(self, key: bytes, answer: tuple[str, list[float]] | None) -> bytes:
        body = to_json(answer)
        return body + blake2b(key + body, digest_size=SEAL_BYTES).digest()

    def _opened(self, key: bytes, kept: bytes | None) -> tuple[str, list[float]] | None:
        """Return a stored answer; None if there is none, or its checksum does not match."""
        if kept is None:
            return None
        try:
            body, seal = kept[:-SEAL_BYTES], kept[-SEAL_BYTES:]
            return tuple(from_json(body)) if blake2b(key + body, digest_size=SEAL_BYTES).digest() == seal else None
        except Exception:  # noqa: BLE001 - it may be anything
            return None


def open_cache(settings: Settings, metrics: Metrics) -> Cache:
    """Return the cache that the settings name.

    Raises:
        UsageError: a package is not installed, or the URL cannot be used.
    """
    url = settings.cache_url.get_secret_value()
    if url == IN_MEMORY:
        return Memory(settings.cache_entries, settings.cache_seconds)
    return Server(url, settings.cache_seconds, metrics)


def cached(served: Served, cache: Cache, metrics: Metrics) -> Served:
    """Return a model that looks rows up in the cache first."""
    info, scorer = served.info, served.scorer
    # A recreated registry counts versions from 1 again; the run distinguishes the models.
    version = to_json([FORMAT, info.model_name, info.version, info.run_id, scorer.contract_version])
    return replace(served, scorer=CachedScorer(**vars(scorer), cache=cache, version=version, metrics=metrics))
