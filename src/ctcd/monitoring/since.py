"""Drift since the last training: the holdout of a candidate compared with the training data of the champion."""

from collections.abc import Callable

import pandas as pd

from ctcd.contract.spec import Contract
from ctcd.errors import UsageError
from ctcd.model.reference import Reference, effective_rows
from ctcd.monitoring.drift import compared, comparisons
from ctcd.monitoring.tolerances import Drift
from ctcd.promotion.evidence import DriftSince
from ctcd.registry.versions import RegisteredVersion


def drift_since(
    champion: RegisteredVersion,
    rows: pd.DataFrame,
    *,
    find_reference: Callable[[str], Reference | None],
    contract: Contract,
    limits: Drift,
) -> DriftSince:
    """Return how the features of rows differ from the champion's training data; nothing is raised or stored.

    The limits are those of `ctcd drift`, so the same change exceeds them in both. The rows may include training data of
    the champion, which makes a change look smaller, never larger.

    Args:
        champion: version whose training data the rows are compared with.
        rows: group and features.
        find_reference: returns the reference of a training run, or None.
        contract: the contract in force.
        limits: from `monitoring.toml`.
    """
    reference = find_reference(champion.run_id)
    if reference is None:
        return DriftSince(unknown=f"the training of version {champion.version} left no reference")
    if missing := sorted({*reference.encoder.inputs} - {*rows.columns}):
        return DriftSince(unknown=f"version {champion.version} reads {', '.join(missing)}, which the rows do not have")
    sizes = rows[contract.group.name].value_counts()
    effective = effective_rows(len(rows), int((sizes**2).sum()))
    if effective < limits.smallest_sample:
        return DriftSince(unknown=f"{effective:.0f} effective rows are fewer than {limits.smallest_sample}")
    try:
        counts = reference.count(rows)
    except UsageError as error:
        return DriftSince(unknown=str(error))
    monitored = {name: binned for name, binned in reference.columns.items() if limits.monitors(name)}
    level = limits.level(sum(map(comparisons, monitored.values())))
    found = [
        compared(name, each, counts[name], effective, level=level, limits=limits) for name, each in monitored.items()
    ]
    found.sort(key=lambda each: (not each.drifted, -(each.psi or 0.0), each.feature))
    return DriftSince(
        version=champion.version, rows=len(rows), effective_rows=effective, level=level, features=tuple(found)
    )
