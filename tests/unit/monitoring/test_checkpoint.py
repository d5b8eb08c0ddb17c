import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import URL, make_url

from ctcd.errors import UsageError
from ctcd.monitoring import checkpoint

texts = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=12)


@given(user=texts, password=texts)
def test_any_password_reaches_the_database(user: str, password: str) -> None:
    """With any password, the URL for Great Expectations is equivalent and contains no variables or blanks."""
    url = URL.create("mysql+pymysql", username=user, password=password, host="db", database="mlops")
    text = checkpoint.encoded(url)
    assert make_url(text) == url
    assert "$" not in text
    assert " " not in text


def test_a_missing_package_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the optional package is not installed, the error says what to install."""
    monkeypatch.setitem(sys.modules, "great_expectations", None)
    with pytest.raises(UsageError, match=r"great_expectations is not installed.*ctcd\[contract\]"):
        checkpoint.require()
