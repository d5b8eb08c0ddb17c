"""Request bodies, drawn from the contract before the load begins, because drawing is slower than sending."""

import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from support.strategies import valid_rows

from ctcd.contract.spec import Contract


def write_payloads(path: Path, contract: Contract, *, count: int = 100, start: int = 1) -> None:
    """Write bodies of `POST /predict`, one per line; the same `start` gives the same bodies."""
    rows: list[dict[str, Any]] = []

    @seed(start)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(valid_rows(contract))
    def collect(row: dict[str, Any]) -> None:
        rows.append(row)

    collect()
    path.write_text("".join(json.dumps({"data": row}, allow_nan=False) + "\n" for row in rows), encoding="utf-8")
