"""The promotion policy: limits that a model must keep to be promoted, from `contracts/promotion.toml`."""

import itertools
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from ctcd.contract.policy_file import read_policy
from ctcd.contract.spec import Contract
from ctcd.errors import UsageError
from ctcd.promotion.slices import require_cuttable

_KINDS = ("limit", "disabled")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Disabled(_Strict):
    """Replaces the limit of a rule that is switched off on purpose."""

    disabled: Literal[True]
    reason: Annotated[str, Field(min_length=10, description="why, and until when")]


def _which(value: Any) -> str:
    return "disabled" if isinstance(value, Disabled) or (isinstance(value, dict) and "disabled" in value) else "limit"


Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Floor = Annotated[Annotated[Share, Tag("limit")] | Annotated[Disabled, Tag("disabled")], Discriminator(_which)]
"""A minimum above 0 and at most 1, or the reason why the rule is disabled."""
Ceiling = Annotated[Annotated[Positive, Tag("limit")] | Annotated[Disabled, Tag("disabled")], Discriminator(_which)]
"""A maximum above 0, or the reason why the rule is disabled."""


class Floors(_Strict):
    """Minimum scores on the whole holdout."""

    accuracy: Floor
    macro_f1: Floor
    recall: dict[str, Floor]


class Comparison(_Strict):
    """How a candidate is compared with the champion.

    The bounds prevent a comparison without effect: a margin of 1, for example, would let everything pass.
    """

    metric: Literal["macro_f1", "accuracy"]
    margin: Annotated[float, Field(ge=0, le=0.05)]
    confidence: Annotated[float, Field(ge=0.8, le=0.999)]
    resamples: Annotated[int, Field(ge=200, le=100_000)]
    seed: Annotated[int, Field(ge=0)]
    tie: Literal["keep", "replace"]
    min_rows: Annotated[int, Field(ge=30)]


def _ascending(edges: list[float]) -> list[float]:
    if any(low >= high for low, high in itertools.pairwise(edges)):
        raise ValueError("edges of bands ascend")
    return edges


Edges = Annotated[list[float], Field(min_length=1), AfterValidator(_ascending)]


class Slices(_Strict):
    """How slices of the holdout are evaluated separately.

    There is no limit on the difference between a slice and the whole: a model could meet it by getting worse elsewhere.
    """

    by: Annotated[dict[str, Literal["each value"] | Edges], Field(min_length=1)]
    min_rows: Annotated[int, Field(ge=30)]
    accuracy: Floor
    max_drop: Annotated[float, Field(gt=0, le=0.25)]


class Calibration(_Strict):
    """How far confidence may deviate from accuracy."""

    max_ece: Annotated[Annotated[Share, Tag("limit")] | Annotated[Disabled, Tag("disabled")], Discriminator(_which)]


class Speed(_Strict):
    """How long the model's predict call may take, in milliseconds."""

    max_row_p95_ms: Ceiling
    max_batch_row_ms: Ceiling


class Artifact(_Strict):
    """How large the model's files may be, in megabytes (10^6 bytes)."""

    max_mb: Ceiling


class ContractMatch(_Strict):
    """Whether the model must have been trained for the contract in force."""

    version_must_match: Annotated[
        Annotated[Literal[True], Tag("limit")] | Annotated[Disabled, Tag("disabled")], Discriminator(_which)
    ]


class Freshness(_Strict):
    """How old the training snapshot may be, in days."""

    max_age_days: Annotated[
        Annotated[Annotated[float, Field(gt=0, le=366)], Tag("limit")] | Annotated[Disabled, Tag("disabled")],
        Discriminator(_which),
    ]


class Policy(_Strict):
    """All limits that a model must keep. Strict and without defaults: a missing rule is an error."""

    floors: Floors
    comparison: Annotated[
        Annotated[Comparison, Tag("limit")] | Annotated[Disabled, Tag("disabled")], Discriminator(_which)
    ]
    slices: Annotated[Annotated[Slices, Tag("limit")] | Annotated[Disabled, Tag("disabled")], Discriminator(_which)]
    calibration: Calibration
    speed: Speed
    artifact: Artifact
    contract: ContractMatch
    freshness: Freshness

    def require_contract(self, contract: Contract) -> None:
        """Check that there is a recall floor for exactly the contract's classes, and that its columns can be sliced.

        Raises:
            UsageError: names the classes or columns for which this is not so.
        """
        classes = contract.classes
        missing = [name for name in classes if name not in self.floors.recall]
        unknown = [name for name in self.floors.recall if name not in classes]
        if missing or unknown:
            problems = [f"no floor for class {name}" for name in missing]
            problems += [f"{name} is not a class of the contract" for name in unknown]
            raise UsageError("; ".join(problems), where="promotion policy, floors.recall")
        if isinstance(self.slices, Slices):
            require_cuttable(self.slices.by, contract)


def load_policy(path: Path) -> Policy:
    """Return the policy of a TOML file such as `contracts/promotion.toml`.

    Raises:
        UsageError: the file cannot be read, is not TOML, or a rule is missing, unknown, out of range or without effect.
    """
    hint = 'to switch a rule off, write { disabled = true, reason = "..." } in its place'
    return read_policy(Policy, path, hint=hint, unnamed=_KINDS)
