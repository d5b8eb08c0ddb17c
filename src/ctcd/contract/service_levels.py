"""The service levels of a load test, from `contracts/service.toml`."""

from typing import Annotated

from pydantic import Field, model_validator

from ctcd.contract.instance import Instance
from ctcd.contract.policy_file import StrictModel, read_policy
from ctcd.errors import UsageError

Milliseconds = Annotated[float, Field(gt=0, le=60_000)]


class Stage(StrictModel):
    """A stage of a load: a number of users for some seconds, reached at a rate of users per second."""

    seconds: Annotated[int, Field(ge=1, le=7_200)]
    users: Annotated[int, Field(ge=1, le=5_000)]
    users_per_second: Annotated[float, Field(gt=0)]


class Limits(StrictModel):
    """The limits that a run must meet; times in milliseconds, of the answers."""

    p50_ms: Milliseconds
    p95_ms: Milliseconds
    p99_ms: Milliseconds
    min_requests_per_second: Annotated[float, Field(gt=0)]
    max_failed_share: Annotated[float, Field(ge=0, le=0.05)]
    tolerated_failures: Annotated[int, Field(ge=0, le=100)]


class Shape(StrictModel):
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


class BaselineRule(StrictModel):
    """How much slower than the baseline a run may be: by a factor of 1 + `max_slowdown`, plus `slack_ms`."""

    max_slowdown: Annotated[float, Field(gt=0, le=5)]
    slack_ms: Annotated[float, Field(ge=0)]


class ServiceLevels(StrictModel):
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


def load_service_levels(instance: Instance) -> ServiceLevels:
    """Return the service levels of an instance, from its `service.toml`.

    Raises:
        UsageError: the file cannot be read, is not TOML, or a value is missing, unknown or out of range.
    """
    return read_policy(ServiceLevels, instance.service_levels)
