"""A model is served only if it fits the contract by which requests are validated."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from support.instance import CONTRACT
from support.serving import INFO, save_model

from ctcd.errors import NotFound, UsageError
from ctcd.model.scorer import SELF_DIGEST, Scorer
from ctcd.model.served import INFO_FILE, ModelInfo, load_scorer

NUMBER = json.dumps(asdict(INFO) | {"version": 7})


def test_the_version_of_a_model_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    """Every field is the same."""
    INFO.save(tmp_path)
    assert ModelInfo.load(tmp_path) == INFO


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    """The error says where it was expected, and what to do."""
    with pytest.raises(NotFound, match=r"version\.json: no model to serve"):
        ModelInfo.load(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"version": "1"}', "{", "[" * 100_000, NUMBER])
def test_a_file_with_other_content_is_refused(tmp_path: Path, text: str) -> None:
    """It is not JSON, or has other fields."""
    (tmp_path / INFO_FILE).write_text(text)
    with pytest.raises(UsageError, match="does not describe a version"):
        ModelInfo.load(tmp_path)


def test_a_model_of_another_contract_is_refused(scorer: Scorer, tmp_path: Path) -> None:
    """Another contract, version, order of classes or order of inputs would silently give wrong answers."""
    folder = save_model(scorer, tmp_path)
    assert load_scorer(folder, CONTRACT).classes == scorer.classes
    others = {
        "contract": replace(CONTRACT, version="2.0.0"),
        "contract is": replace(CONTRACT, name="other"),
    }
    for what, contract in others.items():
        with pytest.raises(UsageError, match=f"the model's {what}.*train and promote"):
            load_scorer(folder, contract)
    description = json.loads((folder / "scorer.json").read_text())
    del description[SELF_DIGEST]
    for key, value in (
        ("classes", description["classes"][::-1]),
        ("encoder", description["encoder"] | {"inputs": description["encoder"]["inputs"][::-1]}),
    ):
        (folder / "scorer.json").write_text(json.dumps(description | {key: value}))
        with pytest.raises(UsageError, match="instead of"):
            load_scorer(folder, CONTRACT)
