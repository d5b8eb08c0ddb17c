"""How far a snapshot may differ from the last accepted one, from `contracts/monitoring.toml`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from ctcd.contract.policy_file import StrictModel, read_policy


class Tolerances(StrictModel):
    """Limits of all comparisons. Strict and without defaults: a missing limit is an error.

    The bounds prevent limits so loose that a comparison would accept everything.
    """

    max_age_days: Annotated[int, Field(ge=0, le=31, description="days that the newest snapshot may be behind")]
    min_row_ratio: Annotated[float, Field(gt=0, lt=1, description="fewest rows, as a multiple of the accepted ones")]
    max_row_ratio: Annotated[float, Field(gt=1, le=100, description="most rows, as a multiple of the accepted ones")]
    min_class_share: Annotated[float, Field(gt=0, lt=0.5, description="lowest share of a class, 0 to 1")]
    class_share: Annotated[float, Field(gt=0, le=0.25, description="most that a class's share may move, 0 to 1")]
    null_share: Annotated[float, Field(gt=0, le=0.25, description="most that a share of missing values may move")]
    mean: Annotated[float, Field(gt=0, le=1, description="most that a mean may move, in standard deviations")]
    median: Annotated[float, Field(gt=0, le=1, description="most that a median may move, in standard deviations")]


def load_tolerances(path: Path) -> Tolerances:
    """Return the tolerances of a TOML file such as `contracts/monitoring.toml`.

    Raises:
        UsageError: the file cannot be read, is not TOML, or a limit is missing, unknown or out of range.
    """
    return read_policy(Tolerances, path)
