"""Values that must be nowhere: marked secrets and personal values, and the search for them."""

import gzip
import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from sqlalchemy import URL
from support.instance import CONTRACT

from ctcd.contract.spec import names

NAME = "Zaphod"
"""Part of every value of a personal column, and of nothing else."""
PASSWORD, OPTION, TOKEN = "mkPassword8Qz4Xw2", "mkOption7Tn3Lk9Rb", "mkToken5Vd6Yh1Jc0"
API_KEY, METRICS_KEY, WRONG_KEY = "mkApiKey4Hs7Wq1Zt9Px", "mkMetricsKey2Gf8Nc5Dj", "mkWrongKey6Bm3Rv0Kx"
BROKER, CACHE = "mkBroker3Wy8Lp5Zr1V", "mkCache9Dk4Sv7Qe2Jm"
MLFLOW_PASSWORD, MLFLOW_TOKEN = "mkTracked1Xb6Hn0Uf8", "mkBearer7Cg2Po5Ys3Wd"
SECRETS = (PASSWORD, OPTION, TOKEN, API_KEY, METRICS_KEY, WRONG_KEY, BROKER, CACHE, MLFLOW_PASSWORD, MLFLOW_TOKEN)
SHORT = 12
"""So many characters of a password are found by chance, too."""
KEYS = {"CTCD_API_KEYS": API_KEY, "CTCD_METRICS_KEYS": METRICS_KEY}
CREDENTIALS = KEYS | {
    "CTCD_BROKER_URL": f"redis://:{BROKER}@127.0.0.1:1/0",
    "CTCD_CACHE_URL": f"redis://:{CACHE}@127.0.0.1:1/0",
    "MLFLOW_TRACKING_PASSWORD": MLFLOW_PASSWORD,
    "MLFLOW_TRACKING_TOKEN": MLFLOW_TOKEN,
}
"""All variables that hold a secret, but for the URLs of store and MLflow; broker and cache do not answer."""


def with_names(file: Path) -> None:
    """Put a name into every personal column of a raw table."""
    rows = pd.read_csv(file, dtype=str, keep_default_na=False)
    for column in names(CONTRACT.personal):
        rows[column] = f"{NAME}-" + rows.index.astype(str)
    rows.to_csv(file, index=False)


def marked(url: URL) -> URL:
    """Return the URL of a MariaDB store with a marked option, which is a secret like each part of a URL but its address."""
    return url.update_query_dict({"program_name": OPTION})


def marks_of(url: URL) -> list[str]:
    """Return all marks, and the password of a store's URL, unless it is too short to be found nowhere else."""
    password = url.password or ""
    return [*SECRETS, NAME, *([password] if len(password) > SHORT else [])]


def unreachable() -> dict[str, str]:
    """Return the variables of a store and an MLflow that do not answer, with marked secrets."""
    return {
        "FEATURE_STORE_URL": f"mysql+pymysql://tester:{PASSWORD}@127.0.0.1:1/nowhere?program_name={OPTION}",
        "MLFLOW_TRACKING_URI": f"http://tester:{TOKEN}@127.0.0.1:1",
    }


@contextmanager
def talkative() -> Iterator[None]:
    """Print every log record of the engine in this process, of whatever level."""
    handler, logger = logging.StreamHandler(sys.stderr), logging.getLogger("ctcd")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


def in_texts(marks: Iterable[str], **texts: str) -> list[str]:
    """Return which text holds which mark."""
    return [f"{name}: {mark}" for mark in marks for name, text in texts.items() if mark in text]


def in_files(marks: Iterable[str], *folders: Path, besides: Iterable[Path] = ()) -> list[str]:
    """Return which file below some folders, compressed ones too, holds which mark; some files may."""
    may = set(besides)
    found = []
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file() and path not in may):
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        found += [f"{path}: {mark}" for mark in marks if mark.encode() in content]
    return found
