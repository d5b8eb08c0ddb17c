import ast
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctcd.drafts.source import WIDTH, Call, Name, python

scalars = st.text() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none()
values = st.recursive(
    scalars, lambda inner: st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner, max_size=5), max_leaves=20
)


@given(values, st.integers(0, 60))
def test_a_literal_is_written_as_its_source(value: Any, indent: int) -> None:
    """What is written evaluates to the value, however long it is."""
    assert ast.literal_eval(python(value, indent=indent)) == value


def test_what_is_not_given_is_not_written() -> None:
    """An argument without a value is left out, and a name is written as it is."""
    call = Call("f", {"a": None, "b": "", "c": (), "d": Name("Role.KEY"), "e": 0})
    assert python(call) == "f(d=Role.KEY, e=0)"


@pytest.mark.parametrize("length", range(WIDTH - 30, WIDTH + 3))
def test_the_layout_is_that_of_the_formatter(length: int, tmp_path: Path) -> None:
    """A line as long as is allowed stays one; a longer one is divided as the formatter would."""
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent))
    assert ruff
    items = ("x" * (length // 2), "y" * (length - length // 2 - 20))
    file = tmp_path / "made.py"
    file.write_text(
        f"value = {python(items, before=8)}\nother = {python(Call('call', {'a': items, 'b': {'k': 1}}), before=8)}\n"
    )
    command = [ruff, "format", "--diff", "--isolated", "--line-length", str(WIDTH), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own file
    assert done.returncode == 0, done.stdout
