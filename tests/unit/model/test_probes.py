"""A model is known again by its answers."""

import json
from copy import copy
from dataclasses import replace
from pathlib import Path

import pytest
from support.instance import CONTRACT

from ctcd.errors import NotFound, UsageError
from ctcd.model.probes import PROBES_FILE, save_probes, verify_probes
from ctcd.model.scorer import Scorer


def test_a_model_answers_its_own_probes(scorer: Scorer, tmp_path: Path) -> None:
    """After saving and loading, every probe is answered as before; every column is probed."""
    scorer.save(tmp_path)
    save_probes(scorer, CONTRACT, tmp_path)
    verify_probes(Scorer.load(tmp_path), tmp_path)
    rows = json.loads((tmp_path / PROBES_FILE).read_text())["rows"]
    assert len(rows) > 2 * len(CONTRACT.model_inputs)
    for column in CONTRACT.model_inputs:
        assert len({str(row[column.name]) for row in rows}) > 1


def test_a_model_that_answers_otherwise_is_refused(scorer: Scorer, tmp_path: Path) -> None:
    """A shifted scaling or a slightly changed probability is detected, and the difference is reported."""
    save_probes(scorer, CONTRACT, tmp_path)
    shifted = copy(scorer.estimator)
    shifted.encoder = replace(scorer.encoder, center=tuple(value + 1e3 for value in scorer.encoder.center))
    with pytest.raises(UsageError, match=r"largest difference 0\.\d"):
        verify_probes(replace(scorer, estimator=shifted), tmp_path)
    probes = json.loads((tmp_path / PROBES_FILE).read_text())
    probes["probabilities"][-1][0] += 1e-8
    (tmp_path / PROBES_FILE).write_text(json.dumps(probes))
    with pytest.raises(UsageError, match="largest difference 1e-08"):
        verify_probes(scorer, tmp_path)


def test_a_model_without_probes_is_refused(scorer: Scorer, tmp_path: Path) -> None:
    """The error says what to do."""
    with pytest.raises(NotFound, match=r"no probes .train again"):
        verify_probes(scorer, tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"rows": 1, "probabilities": []}', '{"rows": [], "probabilities": []}']
)
def test_a_file_that_holds_no_probes_is_refused(scorer: Scorer, tmp_path: Path, text: str) -> None:
    """A file that is not JSON, has another shape, or holds no probe is refused."""
    (tmp_path / PROBES_FILE).write_text(text)
    with pytest.raises(UsageError):
        verify_probes(scorer, tmp_path)
