"""Typed rows from files, in chunks: what validation reads where a file is larger than memory."""

import zlib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ctcd.errors import DataRefused

_UNREADABLE = (OSError, EOFError, zlib.error, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError)


def read_frames(path: Path, *, rows: int) -> Iterator[pd.DataFrame]:
    """Give the rows of a CSV, CSV.gz or Parquet file in frames of at most `rows` rows.

    In CSV an empty text is a missing value, and no other text is. Values have the type that they look like; whether it
    is the right one is for validation to say.

    Raises:
        DataRefused: the file cannot be read to its end.
    """
    try:
        if path.name.endswith(".parquet"):
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=rows):
                    yield batch.to_pandas()
        else:
            with pd.read_csv(path, chunksize=rows, keep_default_na=False, na_values=[""], low_memory=False) as frames:
                yield from frames
    except (*_UNREADABLE, pa.ArrowInvalid) as error:
        raise DataRefused(
            f"cannot be read: {type(error).__name__}", where=str(path), hint="give a CSV, CSV.gz or Parquet file"
        ) from error
