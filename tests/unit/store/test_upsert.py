"""Literals of MariaDB's SQL; `tests/integration/store/test_upsert.py` stores them."""

import pyarrow as pa

from ctcd.store.upsert import _statements


def test_no_text_ends_its_literal() -> None:
    """Quotes and backslashes within a text are doubled; a missing value is NULL, and the text NULL is a text."""
    texts = pa.array(["it's", "\\'; DROP TABLE x; --", None, "NULL"])
    numbers = pa.array([0.5, None, 1e300, -0.0])
    assert list(_statements([texts, numbers])) == [
        "('it''s',0.5),('\\\\''; DROP TABLE x; --',NULL),(NULL,1e+300),('NULL',-0)"
    ]
