"""Estimators are found by name, and what they stored is read only by the code that wrote it."""

import re
import shutil
from copy import deepcopy
from datetime import date, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from support import own_model
from support.frames import snapshot_frame
from support.instance import CONTRACT, FOLDER
from support.rows import plain_rows

from ctcd.contract.instance import code_digest, load_instance
from ctcd.errors import UsageError
from ctcd.model.artifact import reading
from ctcd.model.encoder import Encoder
from ctcd.model.estimator import find_estimator
from ctcd.model.pipelines import TRUSTED, LogisticRegression, RegressionParams
from ctcd.model.scorer import Scorer
from ctcd.model.trees import CatBoost, Trees
from ctcd.training.grid import load_profile
from ctcd.training.preprocess import fit_encoder
from ctcd.training.trial import labelled_part, prepared


def instance_with(folder: Path, code: str) -> Path:
    """Make an instance with a model.py, load it, and return that file."""
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "model.py").write_text(code)
    load_instance(folder)
    return folder / "model.py"


@pytest.fixture(scope="module")
def code() -> str:
    return Path(str(own_model.__file__)).read_text()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, code: str) -> Path:
    return instance_with(tmp_path_factory.mktemp("one") / "contracts", code)


@pytest.fixture(scope="module")
def regression() -> LogisticRegression:
    frame = snapshot_frame(CONTRACT, rows=300)
    found = prepared(LogisticRegression, frame, fit_encoder(frame, CONTRACT))
    part = labelled_part(frame, found, CONTRACT)
    found.fit(part, part, RegressionParams(), seed=1, threads=1, on_round=lambda _: None)
    assert isinstance(found, LogisticRegression)
    return found


def test_an_estimator_of_the_instance_is_known_by_name_and_code(model: Path) -> None:
    """It has the name of the profile and the digest of its file, which belong to the model."""
    found = find_estimator("model:Centroids", code_digest(model))
    assert (found.name, found.code) == ("model:Centroids", code_digest(model))


@pytest.mark.parametrize(
    ("name", "reported"),
    [
        ("catbost", "there is no estimator 'catbost'"),
        ("os:system", "there is no estimator 'os:system'"),
        ("../model:Centroids", "there is no estimator"),
        ("model:Missing", "defines no Missing that is an Estimator"),
        ("model:NoEstimator", "defines no NoEstimator that is an Estimator"),
        ("model:Unfinished", "Unfinished lacks fit, load, predict_proba, save"),
    ],
)
def test_a_name_that_is_no_estimator_is_refused(model: Path, name: str, reported: str) -> None:
    """One line says what is wrong, for a profile as well, where it names file and profile."""
    with pytest.raises(UsageError, match=re.escape(reported)):
        find_estimator(name, code_digest(model))
    profiles = model.with_name("training.toml")
    profiles.write_text(f'[one]\ndescription = ""\nestimator = "{name}"\nfixed = {{}}\ngrid = {{}}\n')
    with pytest.raises(UsageError, match=re.escape(reported)) as refused:
        load_profile("one", load_instance(model.parent))
    assert refused.value.where == f"{profiles} [one]"


@pytest.mark.slow
def test_a_model_is_not_read_by_other_code(tmp_path: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model names the hash of the model.py that made it, and is loaded with that one only."""
    file = instance_with(tmp_path / "before", code)
    frame = snapshot_frame(CONTRACT, rows=300)
    found = prepared(find_estimator("model:Centroids", code_digest(file)), frame, fit_encoder(frame, CONTRACT))
    part = labelled_part(frame, found, CONTRACT)
    found.fit(part, part, found.params(), seed=1, threads=1, on_round=lambda _: None)
    scorer = Scorer(
        name=CONTRACT.name,
        contract_version=CONTRACT.version,
        classes=CONTRACT.classes,
        estimator=found,
        params={},
    )
    scorer.save(tmp_path / "saved")
    np.testing.assert_array_equal(Scorer.load(tmp_path / "saved").probabilities(frame), scorer.probabilities(frame))
    monkeypatch.setattr(type(found), "code", "0" * 64)
    scorer.save(tmp_path / "saved")
    with pytest.raises(UsageError, match=r"is not the code that the model was made with \(SHA-256 000000000000"):
        Scorer.load(tmp_path / "saved")


def test_the_code_is_what_was_imported(tmp_path: Path, code: str) -> None:
    """A process that has imported model.py does not take a later edit for the code that it runs."""
    file = instance_with(tmp_path / "edited", code)
    before = code_digest(file)
    find_estimator("model:Centroids", before)
    file.write_text(f"{code}\n# edited\n")
    assert code_digest(file) == before


def test_a_module_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    """The message names the file, and the line that failed."""
    file = instance_with(tmp_path / "broken", "import no_such_package\n")
    with pytest.raises(UsageError, match=r"model\.py:1: cannot be imported: ModuleNotFoundError"):
        find_estimator("model:Ours", code_digest(file))
    file = instance_with(tmp_path / "ending", "raise SystemExit(0)\n")
    with pytest.raises(UsageError, match=r"model\.py:1: cannot be imported: SystemExit: 0"):
        find_estimator("model:Ours", code_digest(file))
    profiles = file.with_name("training.toml")
    profiles.write_text('[odd]\ndescription = "x"\nestimator = "missing:Ours"\n[odd.fixed]\n[odd.grid]\n')
    with pytest.raises(UsageError, match=r"training\.toml \[odd\]: .*missing\.py: cannot be read: No such file"):
        load_profile("odd", load_instance(file.parent))
    with pytest.raises(UsageError, match=r"other\.py.*there is no such file"):
        find_estimator("other:Ours", "")


@pytest.mark.parametrize("kind", [CatBoost, own_model.Loads])
def test_features_are_stored_by_column(kind: type[Trees], monkeypatch: pytest.MonkeyPatch) -> None:
    """CatBoost reads them as they are: in the order of rows, each call for two or more rows would start a thread."""
    monkeypatch.setattr("ctcd.model.encoder.BLOCK_ROWS", 20)
    frame = snapshot_frame(CONTRACT, rows=50)
    trees = kind(fit_encoder(frame, CONTRACT))
    for features in (trees.encode_frame(frame), trees.encode_rows(plain_rows(frame.head(2), CONTRACT))):
        assert features.num_feature_data.flags.f_contiguous
        assert features.cat_feature_data.flags.f_contiguous


def test_catboost_itself_has_no_features_of_its_own() -> None:
    """A subclass of the fast path, whose `features` nobody would call, is refused where it is written."""
    with pytest.raises(TypeError, match="need Trees as their base"):
        type("Ours", (CatBoost,), {})


@pytest.mark.slow
def test_a_stored_pipeline_holds_no_type_that_is_not_trusted(regression: LogisticRegression, tmp_path: Path) -> None:
    """A pipeline with a function of somebody else's is refused with its name, and nothing of it is run."""
    regression.save(tmp_path / "model.skops")  # which imports skops without the warnings of other packages
    import skops.io

    tampered = make_pipeline(FunctionTransformer(partial(eval)), regression.pipeline)
    (tmp_path / "model.skops").write_bytes(skops.io.dumps(tampered))
    with pytest.raises(UsageError, match=r"model\.skops: holds types that are not trusted: .*eval"):
        LogisticRegression(regression.encoder).load(tmp_path / "model.skops")


def test_no_other_type_is_trusted_in_a_stored_pipeline() -> None:
    """What is loaded may run: one more is trusted only after a look at what it can be made to do."""
    assert TRUSTED == (
        "functools.partial",
        "numpy.dtype",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.utils.validation.check_array",
    )


@pytest.mark.slow
def test_equal_pipelines_are_equal_files(regression: LogisticRegression, tmp_path: Path) -> None:
    """The bytes do not depend on where objects are in memory, and are read as they were written."""
    other = LogisticRegression(regression.encoder)
    other.pipeline = deepcopy(regression.pipeline)
    for name, each in (("one", regression), ("other", other)):
        each.save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    other.load(tmp_path / "one")
    rows = regression.encode_frame(snapshot_frame(CONTRACT, rows=50))
    np.testing.assert_array_equal(other.predict_proba(rows), regression.predict_proba(rows))


def test_estimators_get_the_same_frame_from_everywhere() -> None:
    """A snapshot, a request's rows and one row alone give the same columns, types and values."""
    frame = snapshot_frame(CONTRACT, rows=50)
    encoder = fit_encoder(frame, CONTRACT)
    expected, rows = encoder.typed_frame(frame), plain_rows(frame, CONTRACT)
    assert expected["humidity"].isna().any() or expected["shift"].isna().any()
    assert expected["parts: bearing"].sum() > 0
    pd.testing.assert_frame_equal(encoder.typed_rows(rows), expected)
    alone = pd.concat([encoder.typed_rows([row]) for row in rows], ignore_index=True)
    pd.testing.assert_frame_equal(alone, expected)


def test_dates_are_dates_for_estimators() -> None:
    """Text of a request and values of a frame are the same moments, and a null is NaT."""
    encoder = Encoder(
        inputs=("day",), numeric=("day",), center=(0.0,), scale=(1.0,), lists={}, categorical=(), dates=("day",)
    )
    given = [date(2024, 2, 29), datetime(2024, 2, 29, 13, 7, 59, 123457), None]  # noqa: DTZ001 - dates of rows have no time zone
    typed = encoder.typed_rows([{"day": value and value.isoformat()} for value in given])
    assert typed["day"].to_list() == [pd.Timestamp(value) if value else pd.NaT for value in given]
    pd.testing.assert_frame_equal(encoder.typed_frame(pd.DataFrame({"day": given}, dtype=object)), typed)


def test_a_model_that_ends_the_process_as_it_loads_is_refused(tmp_path: Path) -> None:
    """`load` of an instance's estimator may do anything; a gate or a service must not end with its exit code."""
    with (
        pytest.raises(UsageError, match="SystemExit"),
        reading(tmp_path, missing="m", wrong="cannot be loaded", hint="h"),
    ):
        raise SystemExit(0)
