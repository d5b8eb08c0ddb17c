"""The fingerprint of a training: equal fingerprints mean that training again would give the same model."""

import hashlib
import json
from datetime import date
from importlib.metadata import version

import numpy as np
import pandas as pd

from ctcd.contract.spec import Contract, Kind, names
from ctcd.model.threshold import Threshold
from ctcd.training.grid import Profile

FINGERPRINT = "fingerprint"
"""Tag of a training's MLflow run, and field of its job."""


def data_hash(frame: pd.DataFrame, contract: Contract) -> str:
    """Return a SHA-256 of row keys, features and labels that does not depend on the order of rows and columns.

    It depends on values, not on types: 1 and 1.0 are equal, and so are all kinds of null.
    """
    canonical = {}
    for column in (*contract.row_keys, *contract.model_inputs, contract.label):
        values = frame[column.name]
        if column.kind in (Kind.INTEGER, Kind.NUMBER):
            canonical[column.name] = values.to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            canonical[column.name] = values.astype(object).where(values.notna(), None).to_numpy()
    rows = np.sort(pd.util.hash_pandas_object(pd.DataFrame(canonical, copy=False), index=False).to_numpy())
    digest = hashlib.sha256(json.dumps(names(contract.model_inputs)).encode())
    digest.update(rows.astype("<u8").tobytes())
    return digest.hexdigest()


def fingerprint(
    data: str, contract: Contract, profile: Profile, *, base_dt: date, seed: int, threshold: Threshold | None = None
) -> str:
    """Return a SHA-256 of everything that determines the result of a training, including the version of this package.

    Args:
        data: hash from `data_hash`.
        contract: contributes its name and version.
        profile: contributes its name, its estimator with the code, and the parameters of its trials.
        base_dt: date of the snapshot.
        seed: seed of split and training.
        threshold: decides between two classes.
    """
    parts = {
        "data": data,
        "contract": [contract.name, contract.version],
        "estimator": [profile.estimator, profile.code],
        "profile": [profile.name, [trial.to_dict() for trial in profile.trials()]],
        "base_dt": base_dt.isoformat(),
        "seed": seed,
        "package": version("ctcd"),
        "threshold": str(threshold),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
