"""How a load test follows the service levels of `contracts/service.toml`, and is judged by them."""

from typing import Annotated, Literal

from pydantic import Field

from ctcd.contract.policy_file import StrictModel
from ctcd.contract.service_levels import BaselineRule, Limits, Shape


class Measured(StrictModel):
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


class Finding(StrictModel):
    """One limit, and the measured value."""

    rule: str
    limit: float
    value: float
    better: Literal["lower", "higher"]

    @property
    def kept(self) -> bool:
        """Whether the limit is met."""
        return self.value <= self.limit if self.better == "lower" else self.value >= self.limit


def users_at(shape: Shape, seconds: float) -> tuple[int, float] | None:
    """Return users and users per second at `seconds` after the start, or None when the load is over."""
    for stage in shape.stages:
        if seconds < stage.seconds:
            return stage.users, stage.users_per_second
        seconds -= stage.seconds
    return None


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
