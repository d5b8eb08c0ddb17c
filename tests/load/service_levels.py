"""The service levels of `contracts/service.toml`, and how a load test is judged by them."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ctcd.contract.policy_file import read_policy
from ctcd.errors import UsageError

Milliseconds = Annotated[float, Field(gt=0, le=60_000)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Stage(_Strict):
    """A stage of a load: a number of users for some seconds, reached at a rate of users per second."""

    seconds: Annotated[int, Field(ge=1, le=7_200)]
    users: Annotated[int, Field(ge=1, le=5_000)]
    users_per_second: Annotated[float, Field(gt=0)]


class Limits(_Strict):
    """The limits that a run must meet; times in milliseconds, of the answers."""

    p50_ms: Milliseconds
    p95_ms: Milliseconds
    p99_ms: Milliseconds
    min_requests_per_second: Annotated[float, Field(gt=0)]
    max_failed_share: Annotated[float, Field(ge=0, le=0.05)]
    tolerated_failures: Annotated[int, Field(ge=0, le=100)]


class Shape(_Strict):
    """A load shape: its stages, the pause between two requests of a user, and the limits under this load."""

    description: str
    wait_seconds: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=2, max_length=2)]
    stages: Annotated[list[Stage], Field(min_length=1)]
    limits: Limits

    @model_validator(mode="after")
    def _wait_ascends(self) -> "Shape":
        if self.wait_seconds[0] > self.wait_seconds[1]:
            raise ValueError("wait_seconds: the shortest comes first")
        return self

    def users_at(self, seconds: float) -> tuple[int, float] | None:
        """Return users and users per second at `seconds` after the start, or None when the load is over."""
        for stage in self.stages:
            if seconds < stage.seconds:
                return stage.users, stage.users_per_second
            seconds -= stage.seconds
        return None


class BaselineRule(_Strict):
    """How much slower than the baseline a run may be: by a factor of 1 + `max_slowdown`, plus `slack_ms`."""

    max_slowdown: Annotated[float, Field(gt=0, le=5)]
    slack_ms: Annotated[float, Field(ge=0)]


class ServiceLevels(_Strict):
    """The load shapes by name; no value has a default, so that none can be forgotten."""

    baseline: BaselineRule
    shapes: Annotated[dict[str, Shape], Field(min_length=1)]

    def shape(self, name: str) -> Shape:
        """Return a load shape by its name.

        Raises:
            UsageError: there is no such shape.
        """
        if name not in self.shapes:
            raise UsageError(f"{name!r} is not one of {', '.join(self.shapes)}", where="load shape")
        return self.shapes[name]


class Measured(_Strict):
    """The measurements of a run; times in milliseconds."""

    shape: str
    requests: Annotated[int, Field(ge=0)]
    failures: Annotated[int, Field(ge=0)]
    requests_per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    errors: dict[str, int]


class Finding(_Strict):
    """One limit, and the measured value."""

    rule: str
    limit: float
    value: float
    better: Literal["lower", "higher"]

    @property
    def kept(self) -> bool:
        """Whether the limit is met."""
        return self.value <= self.limit if self.better == "lower" else self.value >= self.limit


def judge(measured: Measured, limits: Limits) -> list[Finding]:
    """Compare a run with the limits of its shape; return a finding for every limit, met or not."""
    tolerated = max(limits.tolerated_failures, int(limits.max_failed_share * measured.requests))
    findings = [
        Finding(rule="failures", limit=float(tolerated), value=float(measured.failures), better="lower"),
        Finding(
            rule="requests per second",
            limit=limits.min_requests_per_second,
            value=measured.requests_per_second,
            better="higher",
        ),
    ]
    times = ("p50_ms", "p95_ms", "p99_ms")
    return findings + [
        Finding(rule=name, limit=getattr(limits, name), value=getattr(measured, name), better="lower") for name in times
    ]


def compare(measured: Measured, baseline: Measured, rule: BaselineRule) -> list[Finding]:
    """Compare a run with an earlier one of the same shape on the same machine."""
    return [
        Finding(
            rule=f"{name} against the baseline",
            limit=getattr(baseline, name) * (1 + rule.max_slowdown) + rule.slack_ms,
            value=getattr(measured, name),
            better="lower",
        )
        for name in ("p50_ms", "p95_ms")
    ]


def load_service_levels(path: Path) -> ServiceLevels:
    """Return the service levels of a TOML file such as `contracts/service.toml`.

    Raises:
        UsageError: the file cannot be read, is not TOML, or a value is missing, unknown or out of range.
    """
    return read_policy(ServiceLevels, path)
