import tomllib
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from support.instance import CONTRACT, INSTANCE

from ctcd.contract.instance import Instance
from ctcd.errors import UsageError
from ctcd.monitoring.tolerances import DEFAULT, load_tolerances

TEXT = INSTANCE.monitoring_policy.read_text(encoding="utf-8")


def changed(tmp_path: Path, **values: object) -> Instance:
    """Return the instance with other tolerances; None removes a key, `drift_` leads to the table `drift`."""
    document = {name: value for name, value in tomllib.loads(TEXT).items() if name != "drift"}
    drift = {f"drift_{name}": value for name, value in tomllib.loads(TEXT)["drift"].items()} | {"drift_ignored": "{}"}
    lines = [
        f"{name.replace('drift_', 'drift.')} = {value}"
        for name, value in (document | drift | values).items()
        if value is not None
    ]
    (tmp_path / "monitoring.toml").write_text("\n".join(lines))
    return replace(INSTANCE, folder=tmp_path)


def test_the_tolerances_of_the_contract_can_be_used() -> None:
    """The instance's file is valid, and every class can have the minimum share."""
    assert load_tolerances(INSTANCE).min_class_share * len(CONTRACT.classes) < 1


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"medain": 0.5}, "medain"),
        ({"median": None}, "median"),
        ({"median": 0.0}, "median"),
        ({"mean": 1.5}, "mean"),
        ({"mean": "nan"}, "mean"),
        ({"mean": '"0.25"'}, "mean"),
        ({"max_age_days": 0.5}, "max_age_days"),
        ({"max_age_days": -1}, "max_age_days"),
        ({"min_row_ratio": 1.0}, "min_row_ratio"),
        ({"max_row_ratio": 1.0}, "max_row_ratio"),
        ({"class_share": 0.5}, "class_share"),
        ({"null_share": 0.0}, "null_share"),
        ({"min_class_share": 0.0}, "min_class_share"),
        ({"mean": "0.25 0.25"}, "not TOML"),
        ({"drift_min_psi": None}, r"drift\.min_psi"),
        ({"drift_min_psi": 0.5}, r"drift\.min_psi"),
        ({"drift_min_share": 0.0}, r"drift\.min_share"),
        ({"drift_false_alarms_per_year": 0.0}, r"drift\.false_alarms_per_year"),
        ({"drift_false_alarms_per_year": 365.0}, r"drift\.false_alarms_per_year"),
        ({"drift_smallest_sample": 199}, r"drift\.smallest_sample: 199 rows are too few for the bins.*at least 200"),
        ({"drift_ignored": '{power = "because"}'}, r"drift\.ignored\.power"),
        ({"drift_smallest_samples": 300}, r"drift\.smallest_samples"),
    ],
)
def test_what_would_weaken_the_data_monitor_is_refused(tmp_path: Path, values: dict[str, object], problem: str) -> None:
    """Unknown keys, missing limits, and limits that accept everything or nothing are refused by name."""
    assert load_tolerances(changed(tmp_path)) == load_tolerances(INSTANCE)
    with pytest.raises(UsageError, match=problem):
        load_tolerances(changed(tmp_path, **values))


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    """A missing file gives a one-line error that names it."""
    with pytest.raises(UsageError, match=r"monitoring\.toml: cannot be read"):
        load_tolerances(replace(INSTANCE, folder=tmp_path))


def test_an_instance_from_before_there_was_drift_has_its_limits(tmp_path: Path) -> None:
    """A file without the table has the limits that a drafted one gets; a table that is there has to be whole."""
    (tmp_path / "monitoring.toml").write_text(TEXT[: TEXT.index("[drift]")])
    assert load_tolerances(replace(INSTANCE, folder=tmp_path)).drift == DEFAULT == load_tolerances(INSTANCE).drift


def test_limits_that_cannot_hold_for_a_contract_are_refused(tmp_path: Path) -> None:
    """Too few rows for so many features and so few false alarms, and a column that is no feature, by key, value and rule."""
    rare = partial(changed, tmp_path, drift_false_alarms_per_year=1e-17)
    with pytest.raises(
        UsageError, match=r"drift\.smallest_sample: 200 rows show only a PSI above 0\.\d+, more than 0\.5"
    ):
        load_tolerances(rare(drift_smallest_sample=200))
    load_tolerances(rare(drift_smallest_sample=20_000))
    with pytest.raises(UsageError, match=r"drift\.ignored: colour: not a feature"):
        load_tolerances(changed(tmp_path, drift_ignored='{colour = "it is not there"}'))


def test_an_ignored_column_is_no_other_one_whose_name_begins_like_it() -> None:
    """Only the column itself and the entries of its list are not monitored."""
    limits = DEFAULT.model_copy(update={"ignored": {"power": "its sensor was replaced"}})
    monitored = {name: limits.monitors(name) for name in ("power", "power: high", "power_factor", "powers", "wear")}
    assert monitored == {"power": False, "power: high": False, "power_factor": True, "powers": True, "wear": True}
