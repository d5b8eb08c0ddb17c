import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.instance import CONTRACT
from support.rows import plain_rows

from ctcd.errors import UsageError
from ctcd.model.encoder import MISSING, Encoder
from ctcd.model.scorer import Scorer
from ctcd.store.snapshot import compact

PARTS = next(column.list_of for column in CONTRACT.model_inputs if column.list_of)
PLAIN = Encoder(
    inputs=("x", "parts", "kind"),
    numeric=("x",),
    center=(10.0,),
    scale=(4.0,),
    lists={"parts": PARTS},
    categorical=("kind",),
)
ROW: dict[str, Any] = {"x": 12.0, "parts": "oil pump,fan belt,oil pump", "kind": "a"}


def counts(text: str | None) -> dict[str, float]:
    features = PLAIN.encode_rows([{**ROW, "parts": text}])
    values = dict(zip(PLAIN.number_names, features.num_feature_data[0].tolist(), strict=True))
    return {item: values[f"parts: {item}"] for item in PARTS.items if values[f"parts: {item}"]}


def test_numbers_are_centred_and_scaled() -> None:
    """A number is shifted by the centre and divided by the scale that training found."""
    assert PLAIN.encode_rows([ROW]).num_feature_data[0, 0] == pytest.approx(0.5)


def test_a_frame_is_encoded_in_blocks(frame: pd.DataFrame, scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The features of many rows are those of the same rows at once, with texts as they are or as categories."""
    encoder = scorer.encoder
    whole, values = encoder.encode_frame(frame), encoder.values(frame)
    sizes: list[int] = []
    features = Encoder._features

    def counted(self: Encoder, numbers: NDArray[np.float64], columns: Any) -> Any:
        sizes.append(len(numbers))
        return features(self, numbers, columns)

    monkeypatch.setattr(Encoder, "_features", counted)
    monkeypatch.setattr("ctcd.model.encoder.BLOCK_ROWS", 300)
    for given_frame in (frame, compact(frame)):
        found = encoder.encode_frame(given_frame)
        assert np.array_equal(found.num_feature_data, whole.num_feature_data, equal_nan=True)
        assert found.cat_feature_data.tolist() == whole.cat_feature_data.tolist()
        assert list(found.num_feature_names) == list(whole.num_feature_names)
        assert list(found.cat_feature_names) == list(whole.cat_feature_names)
        for name, column in encoder.values(given_frame).items():
            assert pd.Series(column).equals(pd.Series(values[name])), name
    assert sizes == [300, 300, 300, 100] * 2


def test_values_are_those_of_rows_one_by_one(frame: pd.DataFrame, scorer: Scorer) -> None:
    """Those of a frame are made column by column, those of mappings row by row, with the same result in the same order."""
    of_frame, of_rows = scorer.encoder.values(frame), scorer.encoder.values(plain_rows(frame, CONTRACT))
    assert list(of_frame) == list(of_rows)
    for name, column in of_frame.items():
        assert pd.Series(column).equals(pd.Series(of_rows[name])), name


def test_a_list_becomes_counts() -> None:
    """Each known entry is counted, repeats too."""
    assert counts(ROW["parts"]) == {"fan belt": 1, "oil pump": 2}


def test_an_empty_list_counts_nothing() -> None:
    """The contract's word for an empty list, and a null, are lists without entries."""
    assert counts(PARTS.empty) == counts(None) == {}


def test_spelling_of_a_list_does_not_matter() -> None:
    """Case and blanks of a client's list make no difference; an unknown entry is not counted."""
    assert counts("Oil Pump, fan belt ,OIL PUMP, steering wheel") == counts(ROW["parts"])


def test_nulls_have_their_own_token() -> None:
    """A null category becomes the fixed token, a null number stays a NaN."""
    for null in (None, float("nan"), pd.NA):
        features = PLAIN.encode_rows([{"x": null, "parts": null, "kind": null}])
        assert features.cat_feature_data.tolist() == [[MISSING.encode()]]
        assert np.isnan(features.num_feature_data[0, 0])


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("x", "12", "str"),
        ("x", [1], "list"),
        ("parts", 3, "int"),
        ("kind", 1.5, "float"),
        ("kind", float("inf"), "float"),
        ("kind", True, "bool"),
        ("kind", b"a", "bytes"),
    ],
)
def test_a_value_of_another_kind_is_refused(name: str, value: object, kind: str) -> None:
    """Text in place of a number, and the reverse, gives an error that names column and type, in rows and in frames."""
    row = {**ROW, name: value}
    with pytest.raises(UsageError, match=f"column {name} holds a {kind} instead of"):
        PLAIN.encode_rows([row])
    with pytest.raises(UsageError, match=f"column {name} holds a {kind} instead of"):
        PLAIN.encode_frame(pd.DataFrame([row], dtype=object))


def test_a_number_too_large_for_a_float_is_refused() -> None:
    """An integer that no float can hold is an error that names the column."""
    with pytest.raises(UsageError, match="column x holds a number too large"):
        PLAIN.encode_rows([{**ROW, "x": 10**400}])


@pytest.mark.parametrize("name", PLAIN.inputs)
def test_a_missing_column_is_named(name: str) -> None:
    """A row or a frame that lacks an input is refused with the name of the input."""
    row = {key: value for key, value in ROW.items() if key != name}
    with pytest.raises(UsageError, match=f"column {name} is missing"):
        PLAIN.encode_rows([row])
    with pytest.raises(UsageError, match=f"column {name} is missing"):
        PLAIN.encode_frame(pd.DataFrame([row]))


def test_columns_without_a_kind() -> None:
    """A contract without lists or categories, or without numbers, is encoded as well."""
    only_numbers = replace(PLAIN, lists={}, categorical=(), inputs=("x",))
    assert only_numbers.encode_rows([ROW]).cat_feature_data is None
    only_text = Encoder(inputs=("kind",), numeric=(), center=(), scale=(), lists={}, categorical=("kind",))
    assert only_text.encode_rows([ROW]).num_feature_data is None
    assert only_text.encode_frame(pd.DataFrame([ROW])).cat_feature_data.tolist() == [[b"a"]]


def test_frames_and_rows_are_encoded_alike(scorer: Scorer, frame: pd.DataFrame) -> None:
    """The features of a frame are, bit for bit, those of its rows, whatever dtypes the frame holds them in."""
    rows = scorer.encoder.encode_rows(plain_rows(frame, CONTRACT))
    for same in (frame, frame.astype(object), frame.convert_dtypes()):
        encoded = scorer.encoder.encode_frame(same)
        np.testing.assert_array_equal(encoded.num_feature_data, rows.num_feature_data)
        np.testing.assert_array_equal(encoded.cat_feature_data, rows.cat_feature_data)


@given(st.lists(st.one_of(st.floats(), st.integers(-(2**70), 2**70), st.booleans(), st.none()), min_size=1))
def test_numbers_of_any_mix_are_those_of_each_alone(values: list[float | None]) -> None:
    """Rows of mixed types are encoded together as each is encoded alone."""
    rows = [{"x": value, "y": 1, "parts": "", "kind": ""} for value in values]
    encoder = replace(
        PLAIN, inputs=("x", "y", "parts", "kind"), numeric=("x", "y"), center=(0.0,) * 2, scale=(1.0,) * 2
    )
    together = encoder.encode_rows(rows).num_feature_data
    alone = np.vstack([encoder.encode_rows([row]).num_feature_data for row in rows])
    np.testing.assert_array_equal(together, alone)
    with np.errstate(over="ignore"):
        wanted = [np.nan if value is None else np.float32(float(value)) for value in values]
    np.testing.assert_array_equal(together[:, 0], wanted)


@pytest.mark.parametrize("value", ["5", "", [1.0], [1.0, 2.0]])
def test_no_text_and_no_list_passes_for_a_number(value: object) -> None:
    """Text and lists are refused in numeric columns, even text that spells a number."""
    for column in ("x", "y"):
        encoder = replace(PLAIN, inputs=("x", "y"), numeric=("x", "y"), center=(0.0,) * 2, scale=(1.0,) * 2, lists={})
        for rows in ([{"x": value, "y": value, "kind": ""}] * 2, [{"x": 1.0, "y": 2, "kind": ""} | {column: value}]):
            with pytest.raises(UsageError, match="instead of a number"):
                encoder.encode_rows(rows)


@given(st.floats(allow_nan=False), st.text())
def test_any_number_and_any_text_can_be_encoded(number: float, text: str) -> None:
    """No float and no text, lone surrogates included, makes encoding fail or warn."""
    PLAIN.encode_rows([{"x": number, "parts": text, "kind": text}])


def test_json_keeps_the_encoder(scorer: Scorer) -> None:
    """An encoder written as JSON is read back as an equal one."""
    for encoder in (PLAIN, scorer.encoder):
        assert Encoder.from_dict(json.loads(json.dumps(encoder.to_dict()))) == encoder
