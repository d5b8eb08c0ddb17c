"""Search profiles: the parameters that a training tries, from `contracts/training.toml`."""

import itertools
from typing import Any

from pydantic import ValidationError, model_validator

from ctcd.contract.instance import Instance, code_digest
from ctcd.contract.policy_file import StrictModel, in_one_line, read_toml
from ctcd.errors import UsageError
from ctcd.model.estimator import CATBOOST, SHIPPED, Estimator, Params, find_estimator, own_name


class Profile(StrictModel):
    """The parameters that a training tries.

    Args:
        name: table name in the TOML file.
        description: short text for display.
        estimator: name of the estimator; see `ctcd.model.estimator`.
        code: SHA-256 of its module in the instance; empty for a shipped one. It is not in the file.
        fixed: parameters shared by all trials.
        grid: values of the other parameters; every combination is a trial, the last parameter varies fastest.
    """

    name: str
    description: str
    estimator: str = CATBOOST
    code: str = ""
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

    @property
    def kind(self) -> type[Estimator]:
        """The estimator."""
        return find_estimator(self.estimator, self.code)

    def trials(self) -> list[Params]:
        """Return the parameters of every trial, in a fixed order."""
        combinations, params = itertools.product(*self.grid.values()), self.kind.params
        return [params(**self.fixed, **dict(zip(self.grid, values, strict=True))) for values in combinations]


def load_profile(name: str, instance: Instance) -> Profile:
    """Return a profile of an instance, from its `training.toml`.

    Raises:
        UsageError: the file cannot be read or has no such profile, or the profile is invalid; names key and rule.
    """
    path = instance.training_profiles
    profiles = read_toml(path)
    if name not in profiles:
        raise UsageError(f"there is no profile {name!r}", where=str(path), hint=f"choose one of {', '.join(profiles)}")
    try:
        return Profile(name=name, code=_code(profiles[name].get("estimator", CATBOOST), instance), **profiles[name])
    except UsageError as error:
        what = f"{error.where}: {error.what}" if error.where else error.what
        raise UsageError(what, where=f"{path} [{name}]", hint=error.hint) from error
    except ValidationError as error:
        raise UsageError(in_one_line(error), where=f"{path} [{name}]") from error
    except (AttributeError, TypeError) as error:
        raise UsageError("a profile is a table with description, fixed and grid", where=f"{path} [{name}]") from error


def _code(estimator: str, instance: Instance) -> str:
    """Return the SHA-256 of the module of an estimator in the instance; "" for a shipped one."""
    if estimator in SHIPPED:
        return ""
    module, _ = own_name(estimator)
    return code_digest(instance.folder / f"{module}.py")
