"""The payload follows from the contract."""

import json
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, get_args

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, StringConstraints, TypeAdapter, ValidationError
from support.client_rows import CLIENT_ROWS
from support.instance import CONTRACT, PAYLOAD
from support.small_contracts import BARE, CODED, LISTED, ODD, WORDS, write_instance

from ctcd.contract.columns import literal
from ctcd.contract.payload import _field, field_names, make_payload, row_reader
from ctcd.serving.batch_predictor import plain
from ctcd.store.conversion import trim

EXAMPLE: dict[str, Any] = PAYLOAD.row.model_json_schema()["examples"][0]


@given(CLIENT_ROWS)
def test_what_clients_send_is_accepted(sent: dict[str, Any]) -> None:
    """Every value in the ranges of clients is accepted, integers for floats and lists in title case too."""
    PAYLOAD.row.model_validate({**EXAMPLE, **sent})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hours", 0),
        ("power", 0.0),
        ("grade", "Excellent"),
        ("shift", "sometimes"),
        ("parts", "Gear Box"),
        ("machine", 2**31),
        ("hours", "39"),
        ("power", float("nan")),
        ("maker", "Acme\nAcme"),
        ("maker", " "),
    ],
)
def test_a_value_that_breaks_a_rule_is_refused(field: str, value: object) -> None:
    """A value outside its rule is refused with the field named."""
    with pytest.raises(ValidationError, match=field):
        PAYLOAD.row.model_validate({**EXAMPLE, field: value})


@pytest.mark.parametrize(
    ("field", "sent"),
    [
        ("maker", "Acme  "),
        ("maker", " Acme\n"),
        ("maker", "\u00a0Acme"),
        ("maker", "Acme" + 100 * " "),
        ("shift", f"{EXAMPLE['shift']} "),
    ],
)
def test_a_text_is_read_as_in_a_file(field: str, sent: str) -> None:
    """Whitespace around a text is not part of it, for no rule either: a model that was trained on files has not seen it."""
    for read in (PAYLOAD.row.model_validate, TypeAdapter(plain(PAYLOAD.row)).validate_python):
        assert getattr(read({**EXAMPLE, field: sent}), field) == sent.strip()
    cells = trim(pa.table({field: [sent]}))
    assert cells[field].to_pylist() == [sent.strip()]


def test_whitespace_is_the_same_for_requests_and_files() -> None:
    """No character around a text is dropped by one and kept by the other."""
    candidates = [
        each for each in map(chr, range(0x10000)) if each.isspace() or unicodedata.category(each) in ("Cc", "Cf", "Zs")
    ]
    texts = [f"{each}Acme{each}" for each in candidates]
    read = TypeAdapter(Annotated[str, StringConstraints(strip_whitespace=True)]).validate_python
    requested = {each for each, text in zip(candidates, texts, strict=True) if read(text) == "Acme"}
    cells = trim(pa.table({"maker": texts}))["maker"].to_pylist()
    assert {each for each, text in zip(candidates, cells, strict=True) if text == "Acme"} == requested
    assert " " in requested
    assert "\x1f" not in requested


def test_the_rules_of_a_text_are_those_of_what_is_kept() -> None:
    """Whitespace cannot make up for what a pattern asks for."""
    column = next(each for each in CONTRACT.model_inputs if each.name == "maker")
    changed = replace(column, pattern="[A-Za-z ]{3,}")
    adapter: TypeAdapter[Any] = TypeAdapter(_field(changed)[0])
    assert adapter.validate_python("abc ") == "abc"
    with pytest.raises(ValidationError, match="pattern"):
        adapter.validate_python("a  ")


def test_a_whole_number_may_be_written_as_a_float() -> None:
    """JSON has one number type: 39.0 is accepted for an integer, 39.5 is not."""
    row = PAYLOAD.row.model_validate({**EXAMPLE, "hours": 39.0})
    assert (row.model_dump()["hours"], type(row.model_dump()["hours"])) == (39, int)
    with pytest.raises(ValidationError, match="hours"):
        PAYLOAD.row.model_validate({**EXAMPLE, "hours": 39.5})


def test_only_nullable_fields_may_be_left_out() -> None:
    """A field may be missing or null exactly where the contract lets the column be null."""
    for column in CONTRACT.model_inputs:
        without = {name: value for name, value in EXAMPLE.items() if name != column.name}
        for sent in (without, {**EXAMPLE, column.name: None}):
            if column.nullable:
                assert getattr(PAYLOAD.row.model_validate(sent), column.name) is None
            else:
                with pytest.raises(ValidationError, match=column.name):
                    PAYLOAD.row.model_validate(sent)


def test_the_schema_has_unit_bounds_and_categories() -> None:
    """The JSON schema of a row has the unit, meaning, bounds and categories of each column."""
    properties = PAYLOAD.row.model_json_schema()["properties"]
    for column in CONTRACT.model_inputs:
        found = properties[column.name]
        text = str(found)
        assert found["unit"] == column.unit
        assert column.meaning in text
        for bound in (column.minimum, column.maximum):
            assert bound is None or f": {bound}" in text.replace(".0", "")
        assert all(category in found.get("enum", ()) for category in column.categories or ())


def test_the_answer_keeps_its_published_fields() -> None:
    """The answer has the group, the class and its confidence."""
    assert {"machine", "predict", "confidence"} <= set(PAYLOAD.prediction.model_fields)


@pytest.mark.parametrize(("field", "model"), [("request", PAYLOAD.request), ("batch_request", PAYLOAD.batch_request)])
def test_a_request_takes_its_rows_and_no_other_field(field: str, model: type[BaseModel]) -> None:
    """A body holds `data` alone; its example is accepted, and another field is refused by name."""
    example = model.model_json_schema()["examples"][0]
    model.model_validate(example)
    assert list(example) == ["data"]
    with pytest.raises(ValidationError, match=f"{field}_more"):
        model.model_validate({**example, f"{field}_more": 1})
    with pytest.raises(ValidationError, match="data"):
        model.model_validate({})


def test_a_batch_has_from_one_row_to_the_limit() -> None:
    """An empty batch and one above `max_rows` are refused."""
    batch = make_payload(CONTRACT, max_rows=3)
    assert batch.max_rows == 3
    for rows in (1, 3):
        batch.batch_request.model_validate({"data": [EXAMPLE] * rows})
    for rows in (0, 4):
        with pytest.raises(ValidationError, match="data"):
            batch.batch_request.model_validate({"data": [EXAMPLE] * rows})


def test_the_answers_of_one_row_and_of_a_batch_agree() -> None:
    """A batch's answer holds for each row what a single answer holds; the version once, for all that name no other."""
    single = set(PAYLOAD.prediction.model_fields)
    [row] = get_args(PAYLOAD.batch_prediction.model_fields["predictions"].annotation)
    assert set(row.model_fields) == single
    assert not row.model_fields["model_version"].is_required()
    assert set(PAYLOAD.batch_prediction.model_fields) == {"predictions", "model_version", "request_id"}


def test_the_row_is_called_as_asked() -> None:
    """The OpenAPI document calls a row by the instance's name for it."""
    assert PAYLOAD.row.__name__ == "ReadingRow"
    assert make_payload(CONTRACT).row.__name__ == "Row"


@given(st.lists(st.text(st.characters(codec="utf-8", min_codepoint=32), min_size=1), min_size=1, unique=True))
def test_a_category_is_taken_literally(texts: list[str]) -> None:
    """Whatever characters a category has, the payload's pattern accepts it and nothing that merely looks like it."""
    pattern = f"^(?:{'|'.join(map(literal, texts))})$"
    adapter = TypeAdapter(Annotated[str, Field(pattern=pattern)])
    for text in texts:
        assert adapter.validate_python(text) == text
    for other in {*(f"{text}{text}" for text in texts), *(text[:-1] for text in texts), "\\"} - set(texts):
        with pytest.raises(ValidationError):
            adapter.validate_python(other)


@pytest.mark.slow
def test_categories_and_entries_may_have_the_characters_of_regular_expressions(tmp_path: Path) -> None:
    """`car (new)` is accepted, and `1x5` is not `1.5`; entries and separators of lists likewise."""
    words = write_instance(WORDS, tmp_path / "words").payload.row
    example = words.model_json_schema()["examples"][0]
    for category in ODD:
        words.model_validate(example | {"purpose": category})
    for other in ("1x5", "car new", "a", "cc"):
        with pytest.raises(ValidationError, match="purpose"):
            words.model_validate(example | {"purpose": other})
    listed = write_instance(LISTED, tmp_path / "listed").payload.row
    example = listed.model_json_schema()["examples"][0]
    for extras in ("(none)", "wifi (5 ghz)", "1.5 m|a/c"):
        listed.model_validate(example | {"extras": extras})
    for extras in ("none", "1x5 m", "1.5 ma/c", "a/c,1.5 m"):
        with pytest.raises(ValidationError, match="extras"):
            listed.model_validate(example | {"extras": extras})


@pytest.mark.slow
def test_answers_have_the_columns_of_the_contract_that_they_are_made_for(tmp_path: Path) -> None:
    """An answer names the group of its own contract; without a group or key it names no row at all."""
    assert next(iter(write_instance(BARE, tmp_path / "bare").payload.prediction.model_fields)) == "predict"
    assert list(write_instance(CODED, tmp_path / "coded").payload.prediction.model_fields)[:2] == ["number", "predict"]
    assert "machine" in PAYLOAD.prediction.model_fields


@pytest.mark.slow
def test_no_column_takes_the_place_of_another(tmp_path: Path) -> None:
    """A column that is called as the field that stands for an odd name keeps its own."""
    number = BARE.columns["width"]
    odd = (number[0], f"alias='a b', {number[1]}")
    columns = {"x": odd, "field_0": number, "y": (number[0], f"alias='c d', {number[1]}"), "good": BARE.columns["good"]}
    row = write_instance(replace(BARE, columns=columns), tmp_path / "odd").payload.row
    assert field_names(row) == ("a b", "field_0", "c d")
    values = {"a b": 1.0, "field_0": 2.0, "c d": 3.0}
    assert row_reader(row)(row.model_validate(values)) == values


@pytest.mark.slow
def test_a_truth_is_no_code(tmp_path: Path) -> None:
    """`true` equals 1 in Python, but is not the code 1 of a request; as a number it is refused likewise."""
    row = write_instance(CODED, tmp_path / "coded").payload.row
    example = row.model_json_schema()["examples"][0]
    for column in ("code", "count"):
        row.model_validate_json(json.dumps(example | {column: 1}))
        with pytest.raises(ValidationError, match=rf"{column}\n  Input should be a valid integer"):
            row.model_validate_json(json.dumps(example | {column: True}))


@pytest.mark.parametrize("classes", [2, 3, 50, 73, 94, 100, 999, 1_001])
def test_the_example_of_an_answer_is_an_answer(classes: int) -> None:
    """However many classes there are, the example's probabilities are at least 0, add up to 1, and the class is likeliest."""
    contract = replace(CONTRACT)
    vars(contract)["classes"] = tuple(map(str, range(classes)))
    made = make_payload(contract).prediction
    example = made.model_json_schema()["examples"][0]
    made.model_validate(example)
    probabilities = example["probabilities"]
    assert min(probabilities.values()) >= 0
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-9)
    assert example["confidence"] == probabilities[example["predict"]] == max(probabilities.values())
