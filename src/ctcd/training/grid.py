"""Search profiles: the parameters that a training tries, from `contracts/training.toml`."""

import itertools
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from ctcd.contract.policy_file import StrictModel, read_toml
from ctcd.errors import UsageError


class TreeParams(StrictModel):
    """Parameters of one trial, with CatBoost's names; without a value, CatBoost's default applies."""

    iterations: Annotated[int, Field(ge=1, le=10_000)]
    early_stopping_rounds: Annotated[int, Field(ge=1)]
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    depth: Annotated[int, Field(ge=1, le=16)]
    l2_leaf_reg: Annotated[float, Field(ge=0)]
    rsm: Annotated[float, Field(gt=0, le=1)]
    max_ctr_complexity: Annotated[int, Field(ge=1, le=8)] | None = None
    one_hot_max_size: Annotated[int, Field(ge=2, le=255)] | None = None
    border_count: Annotated[int, Field(ge=1, le=255)] | None = None
    auto_class_weights: Literal["Balanced", "SqrtBalanced"] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters that have a value."""
        return self.model_dump(exclude_none=True)


class Profile(StrictModel):
    """The parameters that a training tries.

    Args:
        name: table name in the TOML file.
        description: short text for display.
        fixed: parameters shared by all trials.
        grid: values of the other parameters; every combination is a trial, the last parameter varies fastest.
    """

    name: str
    description: str
    fixed: dict[str, Any]
    grid: dict[str, list[Any]]

    @model_validator(mode="after")
    def _check_trials(self) -> "Profile":
        twice = sorted(set(self.fixed) & set(self.grid))
        if twice:
            raise ValueError(f"{', '.join(twice)} is both fixed and in the grid")
        for name, values in self.grid.items():
            if not values or any(value in values[:index] for index, value in enumerate(values)):
                raise ValueError(f"grid.{name} is empty or holds a value twice")
        self.trials()
        return self

    def trials(self) -> list[TreeParams]:
        """Return the parameters of every trial, in a fixed order."""
        combinations = itertools.product(*self.grid.values())
        return [TreeParams(**self.fixed, **dict(zip(self.grid, values, strict=True))) for values in combinations]


def load_profile(name: str, path: Path) -> Profile:
    """Return a profile of a TOML file such as `contracts/training.toml`.

    Raises:
        UsageError: the file cannot be read or has no such profile, or the profile is invalid; names key and rule.
    """
    profiles = read_toml(path)
    if name not in profiles:
        raise UsageError(f"there is no profile {name!r}", where=str(path), hint=f"choose one of {', '.join(profiles)}")
    try:
        return Profile(name=name, **profiles[name])
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}".removeprefix(": ")
            for problem in error.errors(include_input=False)
        )
        raise UsageError(problems, where=f"{path} [{name}]") from error
    except TypeError as error:
        raise UsageError("a profile is a table with description, fixed and grid", where=f"{path} [{name}]") from error
