"""Files that are uploaded to a real service, one of whose workers is killed."""

import csv
import gzip
import io
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
from pydantic import SecretStr
from support.instance import CONTRACT, INSTANCE
from support.load import wait
from support.processes import workers
from support.serving import INFO, logged_ids, row_of

from ctcd.deployment.bento import BentoReport
from ctcd.model.scorer import Scorer
from ctcd.model.served import Origin
from ctcd.scoring.files import BatchScorer
from ctcd.serving.http.routes import FORMATS
from ctcd.serving.launch import running
from ctcd.settings import Settings
from ctcd.store.migrations import upgrade

pytestmark = pytest.mark.integration

ROWS = 20_000
BAD = {5: ("hours", "-1"), 7_123: ("grade", "no such grade"), ROWS - 1: ("power", "x")}
GROUP = CONTRACT.group.name


def rows(*, bad: bool) -> pd.DataFrame:
    table = pd.DataFrame([row_of(number) for number in range(ROWS)]).astype(object)
    table[GROUP] = range(1, ROWS + 1)
    if not bad:
        return table.drop(index=[*BAD])
    for place, (name, value) in BAD.items():
        table.loc[place, name] = value
    return table


def write(table: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.astype(str).where(table.notna()).to_parquet(path, index=False)
    return path


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_outlives_its_workers(
    built: tuple[BentoReport, Path], settings: Settings, scorer: Scorer, tmp_path: Path, kind: str
) -> None:
    """Its result is that of `ctcd predict`, each good row is logged once, and each bad one is named with its reason."""
    store = f"sqlite:///{tmp_path / 'store.db'}"
    upgrade(store, INSTANCE.migrations)
    settings = settings.model_copy(
        update={
            "asynchronous": True,
            "workers": 2,
            "requests_lease_seconds": 2.0,
            "feature_store_url": SecretStr(store),
            "outbox_max_records": 8_000,  # so that a part has 2,000 rows
        }
    )
    file = write(rows(bad=True), tmp_path / f"rows{FORMATS[kind]}")
    with running(built[0].tag, settings) as service, httpx.Client(base_url=service.url, timeout=60) as client:
        wait(lambda: len(workers(service.process.pid)) == 2)
        with file.open("rb") as content:
            accepted = client.post("/predictions/files", content=content, headers={"content-type": kind})
        assert accepted.status_code == 202, accepted.text
        location = accepted.headers["location"]
        wait(lambda: 0 < client.get(location).json()["predicted"] < ROWS - len(BAD))
        workers(service.process.pid)[0].kill()
        wait(lambda: len(workers(service.process.pid)) == 2)

        def get(path: str) -> httpx.Response:
            with httpx.Client(base_url=service.url, timeout=60) as another:
                return another.get(path)

        wait(lambda: get(location).status_code == 200, 120)
        state = get(location)
        assert state.json() == {
            "request_id": accepted.headers["x-request-id"],
            "rows": ROWS,
            "predicted": ROWS - len(BAD),
            "refused": len(BAD),
            "result": f"{location}/result",
            "rejected": f"{location}/rejected",
        }
        downloads = [get(f"{location}/result").content for _ in range(2)]
        rejected = gzip.decompress(get(f"{location}/rejected").content).decode()
        assert get(location).content == state.content
        result = pd.read_csv(io.BytesIO(downloads[0]), compression="gzip")
        wait(lambda: len(set(logged_ids(store))) >= len(result), seconds=120)
    assert downloads[0] == downloads[1]
    good = write(rows(bad=False), tmp_path / f"good{FORMATS[kind]}")
    origin = Origin(model_version=INFO.version, run_id=INFO.run_id, contract_version="", served_by="", variant="")
    BatchScorer(scorer, origin, CONTRACT, chunk_rows=5_000).score_file(good, tmp_path / "expected.csv")
    expected = pd.read_csv(tmp_path / "expected.csv")
    assert result[GROUP].tolist() == expected[GROUP].tolist()
    assert result["prediction"].tolist() == expected["prediction"].tolist()
    numbers = [name for name in expected if str(name).startswith(("confidence", "probability_"))]
    np.testing.assert_allclose(result[numbers], expected[numbers], rtol=0, atol=1e-9)
    assert Counter(logged_ids(store)) == Counter(result["request_id"])
    found = list(csv.DictReader(io.StringIO(rejected)))
    first = 2 if kind == "text/csv" else 1
    assert [int(each["line"]) for each in found] == [place + first for place in BAD]
    for each, (name, value) in zip(found, BAD.values(), strict=True):
        assert each["reasons"].startswith(name)
        assert each[name] == value
