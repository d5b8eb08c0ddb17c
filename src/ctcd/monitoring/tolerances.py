"""How much data may change, from `contracts/monitoring.toml`: snapshots, and rows of requests."""

from typing import Annotated

from pydantic import AfterValidator, Field

from ctcd.contract.instance import Instance
from ctcd.contract.policy_file import StrictModel, read_policy
from ctcd.contract.spec import Contract, names
from ctcd.errors import UsageError
from ctcd.model.reference import BINS, LEAST_SHARE
from ctcd.monitoring import formulas
from ctcd.monitoring.periods import LOOKS

LEAST_IN_BIN = 5
"""Minimum expected number of rows in the smallest bin for the chi-square approximation of the limit (Cochran, 1954)."""
LARGEST_PSI = 0.5
"""PSI that must be detectable in the smallest sample; by convention more than 0.25 is a large change."""


def _holds(rows: int) -> int:
    least = round(LEAST_IN_BIN / LEAST_SHARE)
    if rows < least:
        raise ValueError(
            f"{rows} rows are too few for the bins: the smallest holds {LEAST_SHARE:.1%} of them, and a limit holds from "
            f"{LEAST_IN_BIN} rows in each, so at least {least}"
        )
    return rows


class Drift(StrictModel):
    """Limits of the drift of rows from what their model was trained on."""

    false_alarms_per_year: Annotated[
        float, Field(gt=0, le=52, description="false alarms allowed in a year, of all columns, days and weeks together")
    ]
    smallest_sample: Annotated[
        int,
        AfterValidator(_holds),
        Field(le=1_000_000, description="effective rows of a period that are judged, at least"),
    ]
    min_psi: Annotated[float, Field(gt=0, le=0.25, description="smallest change of a distribution that matters, PSI")]
    min_share: Annotated[float, Field(gt=0, le=0.25, description="smallest change of a share that matters, 0 to 1")]
    ignored: dict[str, Annotated[str, Field(min_length=10, description="why the column is not monitored")]]

    def monitors(self, feature: str) -> bool:
        """Return whether a feature, which may be an entry of a list, is monitored."""
        return not any(feature == name or feature.startswith(f"{name}: ") for name in self.ignored)

    def level(self, checks: int) -> float:
        """Return the probability of a false alarm of each of `checks` comparisons of a day or week, 0 to 1."""
        return formulas.level(self.false_alarms_per_year, checks, sum(LOOKS.values()))

    def require_contract(self, contract: Contract) -> None:
        """Check that the limits can hold for a contract, and that what is ignored is a feature.

        Raises:
            UsageError: names key, value and rule.
        """
        where = "monitoring policy, drift"
        unknown = [name for name in self.ignored if name not in names(contract.model_inputs)]
        if unknown:
            raise UsageError(f"{', '.join(unknown)}: not a feature of the contract", where=f"{where}.ignored")
        columns = [column for column in contract.model_inputs if column.name not in self.ignored]
        features = sum(len(column.list_of.items) if column.list_of else 1 for column in columns)
        # Distribution, missing and unseen values, in the log and in the store, of the answers in the log alone.
        level = self.level(3 * (2 * features + 2))
        shown = formulas.quantile(formulas.careful(level), BINS) / self.smallest_sample
        if shown > LARGEST_PSI:
            raise UsageError(
                f"{self.smallest_sample} rows show only a PSI above {shown:.2f}, more than {LARGEST_PSI}, if "
                f"{features} features may give {self.false_alarms_per_year:g} false alarms in a year",
                where=f"{where}.smallest_sample",
                hint="raise it or false_alarms_per_year, or ignore features",
            )


DEFAULT = Drift(false_alarms_per_year=2.0, smallest_sample=300, min_psi=0.02, min_share=0.01, ignored={})
"""Limits of an instance without a table `drift`."""


class Tolerances(StrictModel):
    """Limits of all comparisons. Strict: a missing limit is an error, unless the whole table `drift` is missing.

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
    drift: Drift = DEFAULT


def load_tolerances(instance: Instance) -> Tolerances:
    """Return the tolerances of an instance, from its `monitoring.toml`.

    Raises:
        UsageError: the file cannot be read, is not TOML, or a limit is missing, unknown, out of range, or does not fit
            the contract.
    """
    found = read_policy(Tolerances, instance.monitoring_policy)
    found.drift.require_contract(instance.contract)
    return found
