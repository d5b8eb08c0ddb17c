"""The lock files are derived from the contract and the policies alone."""

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import yaml
from support.instance import CONTRACT, INSTANCE

from ctcd.contract.spec import names
from ctcd.derived import dictionary, lock
from ctcd.derived.odcs import check_odcs, odcs_yaml


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    """The second run of the lock finds every file as it should be."""
    files = lock.derive(INSTANCE, {}, {})
    assert set(lock.write(files, tmp_path)) == set(files)
    assert lock.write(files, tmp_path) == ()


@pytest.mark.parametrize("folder", ["contracts", "tests/instance"])
def test_every_value_of_a_policy_is_locked(folder: str) -> None:
    """A limit is changed in two files, which a reviewer sees."""
    root = Path(__file__).parents[3] / folder
    locked = json.loads((root / "lock" / lock.POLICIES).read_text(encoding="utf-8"))
    assert locked == {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in root.glob("*.toml")}


def test_an_edited_or_left_over_file_is_corrected(tmp_path: Path) -> None:
    """A locked file that was edited by hand, or one that is no longer derived, is found and corrected."""
    files = lock.derive(INSTANCE, {}, {})
    lock.write(files, tmp_path)
    (tmp_path / lock.CANONICAL).write_text("{}")
    (tmp_path / "old.yaml").write_text("")
    assert lock.write(files, tmp_path) == (lock.CANONICAL, "old.yaml")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files


def test_the_odcs_document_follows_the_published_schema_and_has_every_column() -> None:
    """The ODCS YAML has every column with its bounds, categories, keys and classification."""
    document = yaml.safe_load(odcs_yaml(CONTRACT))
    for table, columns in zip(document["schema"], (CONTRACT.feature_columns, CONTRACT.label_columns), strict=True):
        found = {column["name"]: column for column in table["properties"]}
        assert list(found) == names(columns)
        for column in columns:
            options = found[column.name].get("logicalTypeOptions", {})
            assert options.get("minimum") == column.minimum
            assert options.get("maximum") == column.maximum
            assert tuple(entry["value"] for entry in found[column.name].get("enum", ())) == (column.categories or ())
            assert bool(found[column.name].get("primaryKey")) == (column in CONTRACT.keys)
            assert (found[column.name].get("classification") == "personal") == (column in CONTRACT.personal)


@pytest.mark.slow
def test_a_document_that_breaks_the_odcs_schema_is_refused() -> None:
    """The check against the published schema can fail."""
    with pytest.raises(jsonschema.ValidationError):
        check_odcs(odcs_yaml(CONTRACT).replace("kind: DataContract", "kind: Something"))


@pytest.mark.parametrize("given", [{"meaning": "left | right"}, {"categories": ("a|b", "c")}, {"unit": "m|s"}])
def test_a_bar_in_a_contract_begins_no_cell_of_the_data_dictionary(given: dict[str, object]) -> None:
    """Whatever text a column has, its row has as many cells as the heading."""
    head, _, row = dictionary._table([replace(CONTRACT.model_inputs[0], **given)])  # type: ignore[arg-type] # any field
    assert len(re.findall(r"(?<!\\)\|", row)) == len(re.findall(r"\|", head))
