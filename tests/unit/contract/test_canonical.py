"""The canonical document tells all that a contract and the API's answer promise."""

import json

from pydantic import BaseModel
from support.instance import CONTRACT, INSTANCE, PAYLOAD

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


def test_an_answer_is_told_by_type_and_by_what_must_be_there() -> None:
    """A part counts as an object, and a field with a default as one that may be missing."""
    assert canonical(CONTRACT, Answer)["response"] == {
        "detail": {"type": "object", "required": True},
        "rows": {"type": "integer", "required": False},
    }


def test_an_answer_of_nothing_required_requires_nothing() -> None:
    """A schema that has no list of required fields is one without any."""

    class Empty(BaseModel):
        rows: int = 0

    assert canonical(CONTRACT, Empty)["response"] == {"rows": {"type": "integer", "required": False}}
