"""What tells two trainings apart."""

import hashlib
import json
from datetime import date
from importlib.metadata import version

import numpy as np
import pandas as pd

from ctcd.contract.spec import Contract, Kind, names
from ctcd.training.grid import Profile


def data_hash(frame: pd.DataFrame, contract: Contract) -> str:
    """Return a SHA-256 over row keys, features and labels, whatever the order of rows and columns.

    Values count, not how a frame happens to hold them: 1 and 1.0 are the same, and so is every kind of null.
    """
    canonical = {}
    for column in (*contract.row_keys, *contract.model_inputs, contract.label):
        values = frame[column.name]
        if column.kind in (Kind.INTEGER, Kind.NUMBER):
            canonical[column.name] = values.to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            canonical[column.name] = values.astype(object).where(values.notna(), None).to_numpy()
    rows = np.sort(pd.util.hash_pandas_object(pd.DataFrame(canonical, dtype=None), index=False).to_numpy())
    digest = hashlib.sha256(json.dumps(names(contract.model_inputs)).encode())
    digest.update(rows.astype("<u8").tobytes())
    return digest.hexdigest()


def fingerprint(data: str, contract: Contract, profile: Profile, *, base_dt: date, seed: int) -> str:
    """Return a SHA-256 over all that decides what a training gives.

    Args:
        data: the hash of the data.
        contract: its name and version count.
        profile: its trials count.
        base_dt: the snapshot's date.
        seed: seed of split and training.
    """
    parts = {
        "data": data,
        "contract": [contract.name, contract.version],
        "profile": [profile.name, [trial.to_dict() for trial in profile.trials()]],
        "base_dt": base_dt.isoformat(),
        "seed": seed,
        "package": version("ctcd"),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
