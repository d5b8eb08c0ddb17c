"""Detecting duplicate keys in a stream of rows, in little memory."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_LAST = np.iinfo(np.uint64).max


class SeenKeys:
    """The keys seen so far, at 8 bytes each.

    Keys are stored as 64-bit hashes. The probability of a false match among ten million keys is 3 in a million.

    Args:
        ordered: equal keys follow one another, as in rows that are ordered by their keys: only the last one is kept.
    """

    def __init__(self, *, ordered: bool = False) -> None:
        self._hashes: NDArray[np.uint64] = np.array([_LAST])  # a sentinel: every hash sorts before it or equals it
        self._ordered = ordered

    def duplicated(self, keys: pd.DataFrame) -> NDArray[np.bool_]:
        """Return a mask of the rows whose key occurred before, in `keys` or an earlier call, and remember the other keys."""
        hashes = pd.util.hash_pandas_object(keys, index=False).to_numpy(dtype=np.uint64)
        known = self._hashes[np.searchsorted(self._hashes, hashes)] == hashes
        repeated = np.asarray(known | pd.Series(hashes).duplicated().to_numpy(), dtype=bool)
        if self._ordered:
            if len(hashes):
                self._hashes = np.array([hashes[-1], _LAST])
            return repeated
        new = np.sort(hashes[~repeated])
        self._hashes = np.insert(self._hashes, np.searchsorted(self._hashes, new), new)
        return repeated
