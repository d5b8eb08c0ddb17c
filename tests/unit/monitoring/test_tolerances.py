import tomllib
from pathlib import Path

import pytest
from support.instance import CONTRACT, INSTANCE

from ctcd.errors import UsageError
from ctcd.monitoring.tolerances import load_tolerances

TEXT = INSTANCE.monitoring_policy.read_text(encoding="utf-8")


def changed(tmp_path: Path, **values: object) -> Path:
    """Return a copy of the tolerances with changes; a value of None removes the key."""
    document = tomllib.loads(TEXT) | values
    path = tmp_path / "monitoring.toml"
    path.write_text("\n".join(f"{name} = {value}" for name, value in document.items() if value is not None))
    return path


def test_the_tolerances_of_the_contract_can_be_used() -> None:
    """The instance's file is valid, and every class can have the minimum share."""
    assert load_tolerances(INSTANCE.monitoring_policy).min_class_share * len(CONTRACT.classes) < 1


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
    ],
)
def test_what_would_weaken_the_data_monitor_is_refused(tmp_path: Path, values: dict[str, object], problem: str) -> None:
    """Unknown keys, missing limits, and limits that accept everything or nothing are refused by name."""
    assert load_tolerances(changed(tmp_path)) == load_tolerances(INSTANCE.monitoring_policy)
    with pytest.raises(UsageError, match=problem):
        load_tolerances(changed(tmp_path, **values))


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    """A missing file gives a one-line error that names it."""
    with pytest.raises(UsageError, match=r"nowhere.toml: cannot be read"):
        load_tolerances(tmp_path / "nowhere.toml")
