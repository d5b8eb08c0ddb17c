"""The body of a batch is read in pieces, and costs no more than its size allows."""

import json
import tracemalloc
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic_core import from_json
from starlette.testclient import TestClient
from support.examples import at_most
from support.hostile import hostile_bodies
from support.instance import CONTRACT, PAYLOAD
from support.serving import EXAMPLE, row_of

from ctcd.serving import batch_body
from ctcd.serving.batch_body import PIECE_BYTES, PIECE_ROWS, SPARE, BatchBody
from ctcd.serving.http.problems import SHOWN_VIOLATIONS, Invalid, NotJson, ProblemDetails

LIST = next(column.name for column in CONTRACT.model_inputs if column.list_of)
SIZE = 4_000_000
HOSTILE = hostile_bodies(EXAMPLE, LIST, SIZE)
BODY = BatchBody(PAYLOAD)
TRICKY = st.text(st.sampled_from('a"\\,[]{}: \n\u00e9'), max_size=6)
VALUES = st.recursive(st.none() | st.integers(-9, 9) | TRICKY, lambda inner: st.lists(inner, max_size=3), max_leaves=4)
ROWS = st.lists(st.dictionaries(TRICKY, VALUES, max_size=3) | VALUES, min_size=1, max_size=6)


def read(body: bytes) -> list[Any]:
    return [row for rows in BODY.rows(body) for row in rows]


@hypothesis_settings(deadline=None, max_examples=at_most(300))
@given(ROWS, st.sampled_from([None, 1]), st.booleans(), st.integers(1, 9), st.integers(1, 3))
@example(['"', "]"], None, True, 4, 1)  # a piece that ends between a backslash and the quote that it escapes
def test_the_rows_are_those_of_the_body(
    rows: list[Any], indent: int | None, ascii_only: bool, piece: int, piece_rows: int
) -> None:
    """Rows are parsed as they are in the body, with any quotes, backslashes and brackets, wherever the pieces end."""
    body = json.dumps({"data": rows}, indent=indent, ensure_ascii=ascii_only).encode()
    with patch.object(batch_body, "PIECE_BYTES", piece), patch.object(batch_body, "PIECE_ROWS", piece_rows):
        assert read(body) == rows


@pytest.mark.parametrize("spoilt", [b'{"data": [{}, {}]} x', b'{"more": 1 "data": [{}]}'])
def test_no_position_is_one_in_another_body(spoilt: bytes) -> None:
    """What is wrong beside the rows is told without a position, as they are not read with it."""
    with pytest.raises(NotJson, match=r"^\D+, before or after the rows$"):
        read(spoilt)


@hypothesis_settings(deadline=None, max_examples=at_most(400))
@given(ROWS, st.data())
def test_what_is_not_json_is_refused_and_what_is_json_is_read(rows: list[Any], data: st.DataObject) -> None:
    """A body with one byte removed, replaced or added is read as the parser reads the whole of it, or is refused."""
    body = bytearray(json.dumps({"data": rows}).encode())
    place = data.draw(st.integers(0, len(body) - 1))
    byte = data.draw(st.sampled_from(b'",[]{}:\\0 x'))
    body[place : place + data.draw(st.integers(0, 1))] = data.draw(st.sampled_from([b"", bytes([byte])]))
    try:
        whole = from_json(bytes(body))
    except ValueError:
        with pytest.raises(NotJson):
            read(bytes(body))
        return
    try:
        assert read(bytes(body)) == whole["data"]
    except Invalid:
        assert not (
            isinstance(whole, dict) and list(whole) == ["data"] and isinstance(whole["data"], list) and whole["data"]
        )


@pytest.mark.parametrize(
    "body",
    [
        b'{"data":[1,,2]}',
        b'{"data":[1,2,]}',
        b'{"data":[,1,2]}',
        b'{"data":[1]}]{',
        b'{"data":[1]}}{',
        b'{"data":[1,2}]',
    ],
)
def test_pieces_that_are_json_do_not_make_a_body_json(body: bytes) -> None:
    """A value that is missing between commas, and brackets that do not match, are refused wherever the pieces end."""
    with patch.object(batch_body, "PIECE_BYTES", 1), patch.object(batch_body, "PIECE_ROWS", 1), pytest.raises(NotJson):
        read(body)


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_body_is_refused_with_few_errors_in_bounded_memory(client: TestClient, kind: str) -> None:
    """It needs a few times its size, and no more errors are made than are shown."""
    tracemalloc.start()
    response = client.post("/predict_batch", content=HOSTILE[kind])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert response.status_code in (400, 422), response.text
    assert peak < 6 * SIZE + 10_000_000
    assert len(ProblemDetails.model_validate_json(response.content, strict=True).errors) <= SHOWN_VIOLATIONS


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_parser_never_works_on_much_at_once(kind: str) -> None:
    """It gets a megabyte at a time, or one row, so that other requests have their turn in between."""
    given: list[int] = []

    def count(piece: bytes) -> Any:
        given.append(len(piece))
        return from_json(piece)

    with patch.object(batch_body, "from_json", count):
        try:
            for rows in BODY.rows(HOSTILE[kind]):
                assert len(rows) <= PIECE_ROWS
                assert max(len(row) for row in rows) <= len(EXAMPLE) + SPARE
                if len(rows) > 1:
                    assert given[-1] <= PIECE_BYTES + 2
        except (NotJson, Invalid):
            pass
    assert sum(given) <= SIZE + 2 * len(given)


def test_too_many_rows_are_counted_and_not_parsed() -> None:
    """One more than allowed is refused by its number, hundreds of thousands without it."""
    with patch.object(batch_body, "from_json") as parser:
        with pytest.raises(Invalid) as one:
            read(json.dumps({"data": [{}] * (PAYLOAD.max_rows + 1)}).encode())
        with pytest.raises(Invalid) as many:
            read(json.dumps({"data": [{}] * 500_000}).encode())
    assert not parser.called
    assert one.value.errors[0].rule == f"at most {PAYLOAD.max_rows} rows are allowed, not {PAYLOAD.max_rows + 1}"
    assert "far more values" in many.value.errors[0].rule


def test_a_row_with_too_many_values_is_named_and_not_parsed() -> None:
    """Its index is part of the location."""
    rows = [row_of(0), row_of(1), {f"k{number}": 0 for number in range(1_000)}]
    with patch.object(batch_body, "from_json") as parser, pytest.raises(Invalid) as refused:
        read(json.dumps({"data": rows}).encode())
    assert not parser.called
    assert refused.value.errors[0].field == "data.2"


def test_checking_ends_after_the_errors_that_are_shown(client: TestClient) -> None:
    """Of ten thousand invalid rows the first fifty errors are named, and the detail says that there are more."""
    problem = client.post("/predict_batch", json={"data": [EXAMPLE | {"hours": -1}] * PAYLOAD.max_rows}).json()
    assert [error["field"] for error in problem["errors"]] == [f"data.{row}.hours" for row in range(SHOWN_VIOLATIONS)]
    assert "(and at least 49 more)" in problem["detail"]


MANY: dict[str, bytes] = {
    "fields of the row": json.dumps({"data": EXAMPLE | {f"k{number}": 0 for number in range(5_000)}}).encode(),
    "fields beside the row": json.dumps({"data": EXAMPLE, **{f"k{number}": 0 for number in range(5_000)}}).encode(),
    "one field, repeated": b'{"data":{' + b",".join([b'"k":0'] * 6_000) + b"}}",
    "a list": json.dumps({"data": [0] * 20_000}).encode(),
}


@pytest.mark.parametrize("what", MANY)
def test_a_single_row_with_thousands_of_values_costs_no_error_for_each(client: TestClient, what: str) -> None:
    """It is refused with one error, before it is validated."""
    problem = client.post("/predict", content=MANY[what]).json()
    assert [(error["field"], error["rule"]) for error in problem["errors"]] == [
        ("data", "has far more values than the contract has fields")
    ]


def test_a_single_row_is_judged_by_its_values_and_not_by_their_texts(client: TestClient) -> None:
    """Commas in texts do not count; invalid JSON is reported as such; a few unknown fields are all named."""
    texts = client.post("/predict", json={"data": EXAMPLE | {"k": '\\",[' * 1_000}}).json()
    assert [error["rule"] for error in texts["errors"]] == ["has a field that is not in the contract"]
    table = client.post("/predict", content=b"1,2,3\n" * 1_000)
    assert (table.status_code, table.json()["detail"][:20]) == (400, "the body is not JSON")
    few = client.post("/predict", json={"data": EXAMPLE | {f"k{number}": 0 for number in range(SPARE)}}).json()
    assert len(few["errors"]) == SPARE
