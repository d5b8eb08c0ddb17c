"""The canonical document has everything that a contract and the API's answer promise."""

import json
from pathlib import Path

import pytest
from pydantic import BaseModel
from support.instance import CONTRACT, INSTANCE, PAYLOAD
from support.small_contracts import CODED, write_instance

from ctcd.derived.canonical import canonical
from ctcd.derived.lock import CANONICAL

LOCKED = INSTANCE.lock / CANONICAL


class Detail(BaseModel):
    """Something that an answer holds."""

    note: str


class Answer(BaseModel):
    """An answer with a part and a field that may be left out."""

    detail: Detail
    rows: int = 0


def test_the_document_is_the_locked_one() -> None:
    """Key by key, what is derived now is what was reviewed (`ctcd contract lock` writes it)."""
    assert canonical(CONTRACT, PAYLOAD.prediction) == json.loads(LOCKED.read_text(encoding="utf-8"))


def test_an_answer_has_types_and_required_fields() -> None:
    """A nested model is an object, and a field with a default is not required."""
    assert canonical(CONTRACT, Answer)["response"] == {
        "detail": {"type": "object", "required": True},
        "rows": {"type": "integer", "required": False},
    }


def test_an_answer_may_have_no_required_field() -> None:
    """A schema without a list of required fields requires none."""

    class Empty(BaseModel):
        rows: int = 0

    assert canonical(CONTRACT, Empty)["response"] == {"rows": {"type": "integer", "required": False}}


@pytest.mark.slow
def test_a_category_that_is_no_text_says_how_it_is_written(tmp_path: Path) -> None:
    """Codes and classes that are whole numbers in the tables are named as such, and nothing else is."""
    document = canonical(write_instance(CODED, tmp_path / "contracts").contract, Answer)
    columns = document["features"] | document["labels"]
    written = {name: column["written"] for name, column in columns.items() if "written" in column}
    assert written == {"code": "integer", "other": "integer", "stars": "integer"}
