import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from catboost import CatBoostClassifier, Pool
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import at_most
from support.instance import CONTRACT
from support.rows import input_rows, plain_rows
from support.serving import small_scorer

from ctcd.errors import NotFound, UsageError
from ctcd.model.scorer import (
    CONFIDENCE,
    SCHEMA_VERSION,
    SCORER_FILE,
    SELF_DIGEST,
    THRESHOLD_SCHEMA_VERSION,
    Scorer,
    contract_version_of,
)
from ctcd.model.threshold import Threshold
from ctcd.model.trees import MODEL_FILE, SINGLE_THREAD_ROWS, CatBoost

SCORER = small_scorer()


@pytest.fixture
def hard(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of which some have nulls where the contract allows them and some have categories never seen."""
    nullable = [column.name for column in CONTRACT.model_inputs if column.nullable]
    assert nullable
    result = frame.copy()
    result.loc[::3, nullable] = None
    result.loc[::5, "maker"] = "Astronaut"
    result.loc[::7, "maker"] = "航天员"
    return result


@pytest.mark.slow
def test_all_ways_to_score_agree(scorer: Scorer, hard: pd.DataFrame, tmp_path: Path) -> None:
    """A frame, plain rows, one row at a time and a scorer saved and loaded give the same probabilities, bit for bit."""
    rows = plain_rows(hard, CONTRACT)
    assert len(rows) > SINGLE_THREAD_ROWS
    expected = scorer.probabilities(hard)
    assert expected.shape == (len(hard), len(CONTRACT.classes))
    scorer.save(tmp_path)
    for same in (scorer, Scorer.load(tmp_path)):
        np.testing.assert_array_equal(same.probabilities(hard), expected)
        np.testing.assert_array_equal(same.probabilities_of(rows), expected)
        np.testing.assert_array_equal(np.vstack([same.probabilities_of([row]) for row in rows[:200]]), expected[:200])


def test_a_threshold_decides_and_is_kept(tmp_path: Path, frame: pd.DataFrame) -> None:
    """A loaded scorer decides by the threshold it was saved with; an engine that knows none refuses its files."""
    first = frame[CONTRACT.label.name] == CONTRACT.classes[0]
    silent = {"allow_writing_files": False, "verbose": False}
    trees = CatBoost(SCORER.encoder)
    trees.model = CatBoostClassifier(iterations=5, loss_function="MultiClass", random_seed=1, **silent)
    trees.model.fit(Pool(SCORER.encoder.encode_frame(frame), first.astype(int).to_list()))
    two = replace(SCORER, classes=("a", "b"), estimator=trees, threshold=Threshold(positive="b", value=0.2))
    two.save(tmp_path)
    description = json.loads((tmp_path / SCORER_FILE).read_text())
    assert description["schema_version"] == THRESHOLD_SCHEMA_VERSION > SCHEMA_VERSION
    for scorer in (two, Scorer.load(tmp_path)):
        found = scorer.predict(frame)
        positive = np.array(found.probabilities)[:, 1]
        assert found.classes == np.where(positive >= 0.2, "b", "a").tolist()
        assert ((positive >= 0.2) & (positive < 0.5)).any()
        np.testing.assert_allclose(found.confidences, np.where(positive >= 0.2, positive, 1 - positive), rtol=1e-12)
        assert found.to_frame(frame.index)[CONFIDENCE].tolist() == found.confidences


@settings(max_examples=at_most(50))
@given(st.lists(input_rows(CONTRACT), min_size=1, max_size=5))
def test_any_row_is_scored_alike_in_a_frame(rows: list[dict[str, Any]]) -> None:
    """Whatever the values, a frame of rows gives what the rows give, and each row sums to 1."""
    expected = SCORER.probabilities_of(rows)
    np.testing.assert_array_equal(SCORER.probabilities(pd.DataFrame(rows, dtype=object)), expected)
    np.testing.assert_allclose(expected.sum(axis=1), 1.0, atol=1e-12)


def test_what_a_row_holds_matters(scorer: Scorer, frame: pd.DataFrame) -> None:
    """The probabilities are not the same for all rows: the comparisons above compare something."""
    assert np.ptp(scorer.probabilities(frame), axis=0).min() > 0.1


def test_order_of_columns_and_rows_does_not_matter(scorer: Scorer, frame: pd.DataFrame) -> None:
    """Columns are found by name, and a row's result does not depend on its neighbours."""
    turned = frame[frame.columns[::-1]].iloc[::-1]
    np.testing.assert_array_equal(scorer.probabilities(turned)[::-1], scorer.probabilities(frame))


def test_no_rows_give_no_probabilities(scorer: Scorer, frame: pd.DataFrame) -> None:
    """An empty frame and no rows give an empty table with one column for each class; a missing column is still named."""
    shape = (0, len(CONTRACT.classes))
    assert scorer.probabilities(frame.head(0)).shape == scorer.probabilities_of([]).shape == shape
    with pytest.raises(UsageError, match=CONTRACT.model_inputs[0].name):
        scorer.probabilities(pd.DataFrame())


def test_saved_scorer_is_whole(scorer: Scorer, tmp_path: Path) -> None:
    """What is loaded has the same classes, inputs, version and parameters; saving again changes nothing that matters."""
    for _ in range(2):
        scorer.save(tmp_path)
        loaded = Scorer.load(tmp_path)
        assert (loaded.name, loaded.contract_version, loaded.classes, loaded.inputs, loaded.params, loaded.encoder) == (
            scorer.name,
            scorer.contract_version,
            scorer.classes,
            scorer.inputs,
            scorer.params,
            scorer.encoder,
        )
    assert contract_version_of(tmp_path) == scorer.contract_version
    assert sorted(path.name for path in tmp_path.iterdir()) == [MODEL_FILE, SCORER_FILE]


@pytest.mark.parametrize("name", [MODEL_FILE, SCORER_FILE])
def test_a_folder_without_a_file_is_no_scorer(scorer: Scorer, tmp_path: Path, name: str) -> None:
    """A folder that lacks a file, as a killed process leaves it, is refused with the file's name."""
    scorer.save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(NotFound, match=f"{name}: is missing"):
        Scorer.load(tmp_path)


def test_files_that_do_not_belong_together_are_refused(scorer: Scorer, tmp_path: Path) -> None:
    """Trees of another training than the description are detected."""
    scorer.save(tmp_path / "one")
    small_scorer(iterations=5).save(tmp_path / "other")
    (tmp_path / "other" / MODEL_FILE).replace(tmp_path / "one" / MODEL_FILE)
    with pytest.raises(UsageError, match="is not the one that"):
        Scorer.load(tmp_path / "one")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 99}, "schema version 99"),
        ({"encoder": {}}, "does not describe a scorer"),
        ({"classes": None}, "does not describe a scorer"),
    ],
)
def test_a_description_of_something_else_is_refused(
    scorer: Scorer, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """A description with another schema version or missing parts gives a one-line error."""
    scorer.save(tmp_path)
    path = tmp_path / SCORER_FILE
    described = json.loads(path.read_text())
    del described[SELF_DIGEST]
    path.write_text(json.dumps({**described, **change}))
    with pytest.raises(UsageError, match=message):
        Scorer.load(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [("drive-shaft", "drive-shfat"), ('"stops"', '"steps"'), ("0.", "1.")],
    ids=["item", "name", "number"],
)
def test_a_description_that_was_changed_is_refused(scorer: Scorer, tmp_path: Path, old: str, new: str) -> None:
    """A changed name or number is detected, although it still describes a scorer."""
    scorer.save(tmp_path)
    path = tmp_path / SCORER_FILE
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UsageError, match="was changed after it was written"):
        Scorer.load(tmp_path)


def test_a_description_of_an_earlier_version_names_neither_digest_nor_estimator(scorer: Scorer, tmp_path: Path) -> None:
    """Models that are registered already can still be loaded."""
    scorer.save(tmp_path)
    path = tmp_path / SCORER_FILE
    described = json.loads(path.read_text())
    assert (described.pop("estimator"), described.pop("code_sha256")) == ("catboost", "")
    del described[SELF_DIGEST]
    path.write_text(json.dumps(described))
    assert Scorer.load(tmp_path).encoder == scorer.encoder


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_a_file_that_is_no_description_is_refused(scorer: Scorer, tmp_path: Path, text: str) -> None:
    """Broken JSON, other JSON and other bytes give a one-line error."""
    scorer.save(tmp_path)
    (tmp_path / SCORER_FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=SCORER_FILE):
        Scorer.load(tmp_path)
