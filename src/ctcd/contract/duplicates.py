"""Which keys of a file have been met before, in little memory."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_LAST = np.iinfo(np.uint64).max


class SeenKeys:
    """The keys met so far, 8 bytes each.

    They are kept as hashes of 64 bits: the odds of one false match among ten million keys are 3 to a million.
    """

    def __init__(self) -> None:
        self._hashes: NDArray[np.uint64] = np.array([_LAST])  # ends the sorted hashes, so that each finds a place

    def repeats(self, keys: pd.DataFrame) -> NDArray[np.bool_]:
        """Return which rows have a key that was met before, here or in an earlier call; remember the others."""
        hashes = pd.util.hash_pandas_object(keys, index=False).to_numpy(dtype=np.uint64)
        known = self._hashes[np.searchsorted(self._hashes, hashes)] == hashes
        repeated = np.asarray(known | pd.Series(hashes).duplicated().to_numpy(), dtype=bool)
        new = np.sort(hashes[~repeated])
        self._hashes = np.insert(self._hashes, np.searchsorted(self._hashes, new), new)
        return repeated
