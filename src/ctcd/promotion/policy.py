"""What a model must reach to be promoted, as `contracts/promotion.toml` states it."""

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
    """Stands in the place of a limit whose rule is switched off on purpose."""

    disabled: Literal[True]
    reason: Annotated[str, Field(min_length=10, description="why, and until when")]


def _which(value: Any) -> str:
    return "disabled" if isinstance(value, Disabled) or (isinstance(value, dict) and "disabled" in value) else "limit"


Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Floor = Annotated[Annotated[Share, Tag("limit")] | Annotated[Disabled, Tag("disabled")], Discriminator(_which)]
"""A lowest value, above 0 and at most 1, or the reason why there is none."""
Ceiling = Annotated[Annotated[Positive, Tag("limit")] | Annotated[Disabled, Tag("disabled")], Discriminator(_which)]
"""A highest value above 0, or the reason why there is none."""


class Floors(_Strict):
    """Lowest scores on the whole holdout."""

    accuracy: Floor
    macro_f1: Floor
    recall: dict[str, Floor]


class Comparison(_Strict):
    """How a candidate is compared with the champion.

    The bounds keep a comparison from being worn down to nothing: a margin of 1, say, would let everything pass.
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
    """How parts of the holdout are judged by themselves.

    There is no limit on the distance between a part and the whole: a model could keep it by getting worse elsewhere.
    """

    by: Annotated[dict[str, Literal["each value"] | Edges], Field(min_length=1)]
    min_rows: Annotated[int, Field(ge=30)]
    accuracy: Floor
    max_drop: Annotated[float, Field(gt=0, le=0.25)]


class Calibration(_Strict):
    """How far confidence may be from accuracy."""

    max_ece: Annotated[Annotated[Share, Tag("limit")] | Annotated[Disabled, Tag("disabled")], Discriminator(_which)]


class Speed(_Strict):
    """How long the model's own predict call may take, in milliseconds."""

    max_row_p95_ms: Ceiling
    max_batch_row_ms: Ceiling


class Artifact(_Strict):
    """How big the model may be, in megabytes of 10^6 bytes."""

    max_mb: Ceiling


class ContractMatch(_Strict):
    """Whether the model must have been trained for the contract in force."""

    version_must_match: Annotated[
        Annotated[Literal[True], Tag("limit")] | Annotated[Disabled, Tag("disabled")], Discriminator(_which)
    ]


class Freshness(_Strict):
    """How old the snapshot that a model was trained on may be, in days."""

    max_age_days: Annotated[
        Annotated[Annotated[float, Field(gt=0, le=366)], Tag("limit")] | Annotated[Disabled, Tag("disabled")],
        Discriminator(_which),
    ]


class Policy(_Strict):
    """Everything a model must reach; strict, and without a default: what is not written down is refused."""

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
        """Check that there is a recall floor for every class and for nothing else, and that the slices can be cut.

        Raises:
            UsageError: names the classes or the columns that differ.
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
