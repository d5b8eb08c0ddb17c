"""The promotion policy: limits that a model must keep to be promoted, from `contracts/promotion.toml`."""

import itertools
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, Discriminator, Field, Tag

from ctcd.contract.instance import Instance
from ctcd.contract.policy_file import StrictModel, read_policy
from ctcd.contract.spec import Contract
from ctcd.errors import UsageError
from ctcd.model.threshold import Threshold
from ctcd.promotion.slices import require_cuttable

_LIMIT, _DISABLED, _VALUE, _EDGES = _TAGS = "<limit>", "<disabled>", "<value>", "<edges>"
"""Tags of unions: texts that cannot be part of a location in a policy, as the name of a class or a column can."""


class Disabled(StrictModel):
    """Replaces the limit of a rule that is switched off on purpose."""

    disabled: Literal[True]
    reason: Annotated[str, Field(min_length=10, description="why, and until when")]


def _which(value: Any) -> str:
    return _DISABLED if isinstance(value, Disabled) or (isinstance(value, dict) and "disabled" in value) else _LIMIT


Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
L = TypeVar("L")
Limit = Annotated[Annotated[L, Tag(_LIMIT)] | Annotated[Disabled, Tag(_DISABLED)], Discriminator(_which)]
"""A limit, or the reason why the rule is disabled."""


class Floors(StrictModel):
    """Minimum scores on the whole holdout."""

    accuracy: Limit[Share]
    macro_f1: Limit[Share]
    recall: dict[str, Limit[Share]]


class Comparison(StrictModel):
    """How a candidate is compared with the champion.

    The bounds prevent a comparison without effect: a margin of 1, for example, would let everything pass.
    """

    metric: Literal["macro_f1", "accuracy"]
    margin: Annotated[float, Field(ge=0, le=0.05)]
    confidence: Annotated[float, Field(ge=0.8, le=0.999)]
    resamples: Annotated[int, Field(ge=200, le=100_000)]
    seed: Annotated[int, Field(ge=0)]
    tie: Literal["keep", "replace"]
    min_rows: Annotated[int, Field(ge=10)]


def _ascending(edges: list[float]) -> list[float]:
    if any(low >= high for low, high in itertools.pairwise(edges)):
        raise ValueError("band edges must be in ascending order")
    return edges


Edges = Annotated[list[float], Field(min_length=1), AfterValidator(_ascending)]
HowCut = Annotated[
    Annotated[Literal["each value"], Tag(_VALUE)] | Annotated[Edges, Tag(_EDGES)],
    Discriminator(lambda value: _VALUE if isinstance(value, str) else _EDGES),
]


class Slices(StrictModel):
    """How slices of the holdout are evaluated separately.

    There is no limit on the difference between a slice and the whole: a model could meet it by getting worse elsewhere.
    """

    by: Annotated[dict[str, HowCut], Field(min_length=1)]
    min_rows: Annotated[int, Field(ge=10)]
    accuracy: Limit[Share]
    max_drop: Limit[Annotated[float, Field(gt=0, le=0.25)]]


class Calibration(StrictModel):
    """How far confidence may deviate from accuracy."""

    max_ece: Limit[Share]


class Speed(StrictModel):
    """How long the model's predict call may take, in milliseconds."""

    max_row_p95_ms: Limit[Positive]
    max_batch_row_ms: Limit[Positive]


class Artifact(StrictModel):
    """How large the model's files may be, in megabytes (10^6 bytes)."""

    max_mb: Limit[Positive]


class ContractMatch(StrictModel):
    """Whether the model must have been trained for the contract in force."""

    version_must_match: Limit[Literal[True]]


class Freshness(StrictModel):
    """How old the training snapshot may be, in days."""

    max_age_days: Limit[Annotated[float, Field(gt=0, le=366)]]


class Binary(StrictModel):
    """Rules for two classes only: the threshold between them, and floors of how well the positive one is ranked."""

    positive: str
    threshold: Annotated[float, Field(gt=0, lt=1)]
    roc_auc: Limit[Share]
    average_precision: Limit[Share]


class Policy(StrictModel):
    """All limits that a model must keep. Strict, and without defaults for what any model has: a missing rule is an error."""

    floors: Floors
    comparison: Limit[Comparison]
    slices: Limit[Slices]
    calibration: Calibration
    speed: Speed
    artifact: Artifact
    contract: ContractMatch
    freshness: Freshness
    binary: Binary | None = None

    @property
    def threshold(self) -> Threshold | None:
        """What decides between two classes; None: the most probable class is predicted."""
        if self.binary is None:
            return None
        return Threshold(positive=self.binary.positive, value=self.binary.threshold)

    def require_contract(self, contract: Contract) -> None:
        """Check that exactly the contract's classes have a recall floor, and that `binary` and slices fit it.

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
        if self.binary and len(classes) != 2:
            what = f"positive, threshold, roc_auc and average_precision are for two classes: the contract has {len(classes)}"
            raise UsageError(what, where="promotion policy, binary", hint="remove the table [binary]")
        if self.binary and self.binary.positive not in classes:
            what = f"{self.binary.positive} is not a class of the contract: {', '.join(classes)}"
            raise UsageError(what, where="promotion policy, binary.positive")
        if isinstance(self.slices, Slices):
            require_cuttable(self.slices.by, contract)


def switches(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the keys of a policy whose limit may be replaced by the reason why the rule is switched off."""
    for name, field in model.model_fields.items():
        kinds = [field.annotation]
        for kind in kinds:  # grows: the parts of each are looked at too
            kinds += get_args(kind)
        if Disabled in kinds:
            yield f"{prefix}{name}.CLASS" if get_origin(field.annotation) is dict else f"{prefix}{name}"
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, StrictModel) and kind is not Disabled:
                yield from switches(kind, f"{prefix}{name}.")


def load_policy(instance: Instance) -> Policy:
    """Return the policy of an instance, from its `promotion.toml`.

    Raises:
        UsageError: the file cannot be read, is not TOML, or a rule is missing, unknown, out of range, without effect,
            or does not fit the contract.
    """
    off = '{ disabled = true, reason = "..." }'
    hint = f"one of these may be switched off with {off}: {', '.join(switches(Policy))}"
    policy = read_policy(Policy, instance.promotion_policy, hint=hint, unnamed=_TAGS)
    policy.require_contract(instance.contract)
    return policy
