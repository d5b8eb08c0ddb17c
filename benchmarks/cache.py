"""When the cache of answers pays: what looking a row up costs, compared with computing it, by model and kind of cache."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
from catboost import CatBoostClassifier, Pool
from support.frames import snapshot_frame
from support.redis import own_server
from support.serving import model_info

import ctcd.serving.cache
from benchmarks.instance import CONTRACT
from ctcd.cli.output import table
from ctcd.contract.payload import request_rows
from ctcd.contract.spec import names
from ctcd.model.estimator import LabelledPart, find_estimator
from ctcd.model.scorer import Scorer
from ctcd.model.served import Served
from ctcd.model.trees import CatBoost
from ctcd.serving.cache import Cache, Memory, Server, cached
from ctcd.serving.metrics import Metrics
from ctcd.settings import load_settings
from ctcd.training.preprocess import fit_encoder
from ctcd.training.trial import prepared

FITTED, COMPUTED, CACHED = 3_000, 64, 512
"""Rows that the models are fitted on, that they compute, and that are looked up."""
BATCHES = (1, 32)
ROUNDS, PASSES = 7, 20
TREES, DEPTH = 400, 6
NEVER = 2.0
"""Share of hits of a cache that never pays."""
PIPELINES = ("logistic_regression", "hist_gradient_boosting")


@dataclass(frozen=True, kw_only=True)
class CacheResult:
    """One model with one kind of cache; the fastest round.

    Args:
        batch: rows of a call.
        computed_us: time to compute a row, microseconds.
        looked_up_us: time to give a row from the cache, microseconds.
        missed_us: time to look a row up in vain, besides computing it, microseconds.
        pays_from: share of hits from which a cache saves time; above 1: never.
    """

    model: str
    cache: str
    batch: int
    computed_us: float
    looked_up_us: float
    missed_us: float
    pays_from: float


class Explained:
    """Computes the SHAP values of each row with its prediction, as a service that explains its answers does."""

    def __init__(self, trees: CatBoost) -> None:
        self._trees = trees

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trees, name)

    def predict_proba(self, features: Any) -> Any:
        """Return the probabilities."""
        self._trees.model.get_feature_importance(Pool(features), type="ShapValues", thread_count=1)
        return self._trees.predict_proba(features)


class Free:
    """Computes nothing, so that what remains is the cache."""

    encoder = SimpleNamespace(inputs=tuple(names(CONTRACT.model_inputs)))

    def encode_rows(self, rows: Sequence[Any]) -> Any:
        """Return the number of rows."""
        return len(rows)

    def predict_proba(self, features: int) -> Any:
        """Return equal probabilities."""
        return np.full((features, len(CONTRACT.classes)), 1 / len(CONTRACT.classes))


def run(_data: Path | None) -> list[Any]:
    """Measure each cache and each model, one row and 32 rows at a time."""
    frame = snapshot_frame(CONTRACT, rows=FITTED, base_dt=load_settings().today())
    rows = request_rows(frame.head(CACHED), CONTRACT)
    models = _scorers(frame)
    results = []
    # On a busy machine a server that is left alone for a while would be measured.
    with own_server() as server, patch.object(ctcd.serving.cache, "WAIT_SECONDS", 1.0):
        server.client.config_set("appendonly", "no")  # as a cache is run
        kinds: dict[str, Cache] = {"memory": Memory(10**6, 3_600), "server": Server(server.url, 3_600, Metrics())}
        for batch in BATCHES:
            computed = {name: _fastest(scorer.predict, rows[:COMPUTED], batch) for name, scorer in models}
            costs = {kind: _costs(cache, rows, batch) for kind, cache in kinds.items()}
            results += [
                _result(name, kind, batch, microseconds, costs[kind])
                for name, microseconds in computed.items()
                for kind in kinds
            ]
    table(
        f"A row from the cache, and computed: the fastest of {ROUNDS} rounds",
        ("model", "cache", "rows per call", "computed, us", "hit, us", "miss adds, us", "pays from a share of hits of"),
        [
            (
                each.model,
                each.cache,
                each.batch,
                round(each.computed_us, 1),
                round(each.looked_up_us, 1),
                round(each.missed_us, 1),
                "never" if each.pays_from > 1 else f"{each.pays_from:.0%}",
            )
            for each in results
        ],
    )
    return list(results)


def _scorers(frame: Any) -> list[tuple[str, Scorer]]:
    rows = frame.copy()
    target = rows.pop(CONTRACT.label.name).map(CONTRACT.classes.index).to_numpy()
    encoder = fit_encoder(rows, CONTRACT)
    trees = CatBoost(encoder)
    options: dict[str, Any] = {"iterations": TREES, "depth": DEPTH, "loss_function": "MultiClass", "random_seed": 1}
    fitted = CatBoostClassifier(**options, allow_writing_files=False, verbose=False)
    trees.model = fitted.fit(Pool(trees.encode_frame(rows), target))
    found: list[tuple[str, Any]] = [("catboost", trees)]
    for name in PIPELINES:
        pipeline = prepared(find_estimator(name), rows, encoder)
        part = LabelledPart(pipeline.encode_frame(rows), target, [])
        pipeline.fit(part, part, pipeline.params(), seed=1, threads=1, on_round=lambda _: None)
        found.append((name, pipeline))
    found.append(("catboost with SHAP values", Explained(trees)))
    return [(name, _scorer(estimator)) for name, estimator in found]


def _scorer(estimator: Any) -> Scorer:
    return Scorer(
        name=CONTRACT.name,
        contract_version=CONTRACT.version,
        classes=CONTRACT.classes,
        estimator=estimator,
        params={},
    )


class _Counting(Metrics):
    misses = 0

    def cached(self, hits: int, misses: int) -> None:
        """Count misses for this process to read."""
        del hits
        self.misses += misses


def _costs(cache: Cache, rows: Sequence[dict[str, Any]], batch: int) -> tuple[float, float]:
    """Return what a hit costs, and what a miss costs besides computing the row, microseconds."""
    free, missed, hit = _scorer(Free()), [], []
    for number in range(ROUNDS):
        # A version whose answers nobody keeps yet.
        metrics, info = _Counting(), replace(model_info(CONTRACT), version=f"{batch}/{number}")
        with_cache = cached(Served(scorer=free, info=info), cache, metrics).scorer
        missed.append(_microseconds(with_cache.predict, rows, batch))
        for _ in range(PASSES):  # a server is written to later, and not while it still writes
            misses = metrics.misses
            microseconds = _microseconds(with_cache.predict, rows, batch)
            if metrics.misses == misses:
                hit.append(microseconds)
                break
        else:
            raise RuntimeError("the cache does not keep answers")
    return min(hit), max(min(missed) - _fastest(free.predict, rows, batch), 0)


def _result(name: str, kind: str, batch: int, computed: float, costs: tuple[float, float]) -> CacheResult:
    hit, miss = costs
    return CacheResult(
        model=name,
        cache=kind,
        batch=batch,
        computed_us=computed,
        looked_up_us=hit,
        missed_us=miss,
        # A hit saves, a miss adds: from this share of hits both are the same.
        pays_from=miss / (miss + computed - hit) if computed > hit else NEVER,
    )


def _fastest(predict: Callable[[Any], Any], rows: Sequence[Any], batch: int) -> float:
    """Return the time of the round that other work on the machine has disturbed least, microseconds for a row."""
    return min(_microseconds(predict, rows, batch) for _ in range(ROUNDS))


def _microseconds(predict: Callable[[Any], Any], rows: Sequence[Any], batch: int) -> float:
    began = time.perf_counter()
    for start in range(0, len(rows), batch):
        predict(rows[start : start + batch])
    return (time.perf_counter() - began) / len(rows) * 1e6
