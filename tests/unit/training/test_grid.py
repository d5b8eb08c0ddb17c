from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from support.instance import INSTANCE

from ctcd.errors import UsageError
from ctcd.model.trees import TreeParams
from ctcd.training.grid import Profile, load_profile

VALID: dict[str, Any] = {
    "iterations": 10,
    "early_stopping_rounds": 5,
    "learning_rate": 0.1,
    "depth": 4,
    "l2_leaf_reg": 3.0,
    "rsm": 1.0,
}


def profile(fixed: dict[str, Any], grid: dict[str, list[Any]]) -> Profile:
    return Profile(name="p", description="", fixed=fixed, grid=grid)


def test_full_is_the_reference_grid() -> None:
    """The full profile is depth 7, 8, 9 by rsm 0.8, 0.9, 1.0 by l2_leaf_reg 3, 5, 7, stopped after 50 of at most 2000."""
    trials = load_profile("full", INSTANCE).trials()
    values = [trial.to_dict() for trial in trials]
    assert {(trial["depth"], trial["rsm"], trial["l2_leaf_reg"]) for trial in values} == {
        (depth, rsm, reg) for depth in (7, 8, 9) for rsm in (0.8, 0.9, 1.0) for reg in (3.0, 5.0, 7.0)
    }
    assert len(trials) == 27
    assert {(trial["iterations"], trial["early_stopping_rounds"]) for trial in values} == {(2000, 50)}


@pytest.mark.parametrize(("name", "most"), [("fast", 6), ("smoke", 1)])
def test_small_profiles_are_small(name: str, most: int) -> None:
    """The demo's profile has a few trials, the one for tests has one."""
    assert 1 <= len(load_profile(name, INSTANCE).trials()) <= most


def test_a_profile_tries_every_combination() -> None:
    """Every combination of the grid is a trial, in an order that does not change."""
    trials = profile(
        {k: v for k, v in VALID.items() if k not in ("depth", "rsm")}, {"depth": [4, 5], "rsm": [0.5, 1.0]}
    )
    values = [trial.to_dict() for trial in trials.trials()]
    assert [(trial["depth"], trial["rsm"]) for trial in values] == [(4, 0.5), (4, 1.0), (5, 0.5), (5, 1.0)]


def test_parameters_left_out_stay_out() -> None:
    """Only parameters of the profile are passed to CatBoost."""
    assert TreeParams(**VALID).to_dict() == VALID


@pytest.mark.parametrize(
    "change",
    [
        {"deptth": 4},
        {"loss_function": "MultiClassOneVsAll"},
        {"depth": 17},
        {"depth": "4"},
        {"rsm": 0.0},
        {"iterations": 0},
        {"learning_rate": float("nan")},
        {"auto_class_weights": "Sometimes"},
    ],
)
def test_a_wrong_parameter_is_refused(change: dict[str, Any]) -> None:
    """A key or a value that CatBoost or the scorer cannot use is refused."""
    with pytest.raises(ValidationError):
        profile(VALID | change, {})


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"depth": [5]}, "depth is both fixed and in the grid"),
        ({"border_count": []}, "grid.border_count is empty"),
        ({"border_count": [32, 64, 32]}, "holds a value twice"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(grid: dict[str, list[Any]], message: str) -> None:
    """A parameter given twice, without a value or with the same value twice is refused."""
    with pytest.raises(ValidationError, match=message):
        profile(VALID, grid)


def test_unknown_profile_names_the_known_ones() -> None:
    """An unknown profile gives a one-line error that lists the existing ones."""
    with pytest.raises(UsageError, match=r"no profile 'fats'.*fast, full, baseline, smoke"):
        load_profile("fats", INSTANCE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[p", "not TOML"),
        ("p = 1", "a profile is a table"),
        ("[p]\ndescription = ''", r"\[p\]: fixed: Field required; grid: Field required"),
        ("[p]\ndescription = ''\nname = 'q'", "a profile is a table"),
        ("[p]\ndescription = ''\nfixed = {depth = 4}\ngrid = {}\ntrials = 3", "trials: Extra inputs"),
    ],
)
def test_a_wrong_file_ends_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    """A file that is no TOML or holds no profile is refused with file, key and rule."""
    path = tmp_path / "training.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load_profile("p", replace(INSTANCE, folder=tmp_path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_ends_in_one_line(tmp_path: Path) -> None:
    """A file that is not there is refused with its name."""
    with pytest.raises(UsageError, match=r"training\.toml: cannot be read"):
        load_profile("p", replace(INSTANCE, folder=tmp_path))
