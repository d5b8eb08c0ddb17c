"""Which requests the challenger gets: the policy of `contracts/traffic.toml`, and the running experiment."""

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ctcd.contract.conditions import condition
from ctcd.contract.judging import Limits
from ctcd.contract.policy_file import StrictModel, read_policy
from ctcd.contract.spec import Contract
from ctcd.errors import UsageError

LEAD_SECONDS = 15.0
"""Delay until an experiment takes effect: longer than workers need to learn of it and to load the version."""
Share = Annotated[float, Field(gt=0, le=1)]


class Variant(StrEnum):
    """Which model gave an answer, as recorded in the prediction log."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"
    SHADOW = "shadow"
    """The challenger; the answer was not returned to the client."""
    SHADOW_FAILED = "shadow_failed"
    """The challenger failed as a shadow: the row repeats the champion's answer, and was not returned to the client."""
    FALLBACK = "fallback"
    """The champion, because the challenger failed or timed out."""


class Mode(StrEnum):
    """Kinds of traffic; only one is active at a time."""

    SHADOW = "shadow"
    """The challenger also scores a share of the requests after the champion has answered them."""
    CANARY = "canary"
    """The challenger answers a share of the groups."""
    ROUTE = "route"
    """The challenger answers the requests that meet a condition."""


class Shadow(StrictModel):
    """The share of requests that the challenger also scores."""

    share: Share


class Step(StrictModel):
    """A step of a canary: the share of groups that the challenger answers, and the minimum number of its answers."""

    share: Annotated[float, Field(gt=0, le=0.9)]
    min_answers: Annotated[int, Field(ge=1)]


class Canary(StrictModel):
    """The steps of a canary, each with a larger share than the one before."""

    steps: Annotated[list[Step], Field(min_length=1)]

    @model_validator(mode="after")
    def _shares_ascend(self) -> "Canary":
        if any(before.share >= after.share for before, after in pairwise(self.steps)):
            raise ValueError("steps: each share has to be larger than the one before")
        return self


class Route(StrictModel):
    """A condition over the columns of a request, and the alias of the version that answers if it is met."""

    when: Annotated[str, Field(min_length=1, max_length=1_000)]
    alias: Literal["champion", "challenger"]


class TrafficPolicy(StrictModel):
    """The kinds of traffic that a challenger may get; a kind that is not defined cannot be started."""

    shadow: Shadow | None = None
    canary: Canary | None = None
    default: Literal["champion", "challenger"] | None = None
    route: list[Route] = Field(default_factory=list)
    limits: Limits | None = None

    @model_validator(mode="after")
    def _complete(self) -> "TrafficPolicy":
        if bool(self.route) != (self.default is not None):
            raise ValueError("default: routes need one, and it needs routes")
        if not (self.shadow or self.canary or self.route):
            raise ValueError("it has neither [shadow], [canary] nor [[route]]: without any, leave the file out")
        return self

    def share(self, mode: Mode, step: int = 1) -> float:
        """Return the share of requests or groups of a kind of traffic; 1 for routes.

        Args:
            mode: kind of traffic.
            step: of a canary, from 1.

        Raises:
            UsageError: the policy does not have this kind of traffic, or this step.
        """
        if mode is Mode.CANARY and self.canary:
            if not 1 <= step <= len(self.canary.steps):
                raise UsageError(
                    f"there is no step {step}, there are {len(self.canary.steps)}", where="traffic.toml, canary.steps"
                )
            return self.canary.steps[step - 1].share
        if mode is Mode.SHADOW and self.shadow:
            return self.shadow.share
        if mode is Mode.ROUTE and self.route:
            return 1.0
        section = "[[route]]" if mode is Mode.ROUTE else f"[{mode}]"
        raise UsageError(f"{section} is not in the policy", where="traffic.toml", hint="add it, and deploy it")

    def experiment(
        self, mode: Mode, version: str, *, step: int = 1, running: "Experiment | None" = None
    ) -> "Experiment":
        """Return a new experiment, or the running one with a change, to be written to the registry.

        Args:
            mode: kind of traffic.
            version: the challenger.
            step: of a canary, from 1.
            running: the running experiment; if it is about the same version, its id and so its groups are kept.

        Raises:
            UsageError: see `share`.
        """
        share, now = self.share(mode, step), datetime.now(UTC)
        same = running if running is not None and running.version == version else None
        return Experiment(
            id=same.id if same else secrets.token_hex(8),
            version=version,
            mode=mode,
            share=share,
            step=step if mode is Mode.CANARY else 0,
            started=same.started if same else now.isoformat(timespec="seconds"),
            effective=(now + timedelta(seconds=LEAD_SECONDS)).isoformat(timespec="milliseconds"),
            before=same.share_at(now.timestamp()) if same and same.mode is mode else 0.0,
        )

    def router(self, contract: Contract) -> Callable[[Mapping[str, Any]], str]:
        """Return the function that gives the alias of the version that answers a row; the first condition met decides.

        Raises:
            UsageError: conditions do not fit the contract; names each.
        """
        conditions, wrong = [], []
        for place, route in enumerate(self.route, 1):
            try:
                conditions.append((condition(route.when, contract), route.alias))
            except UsageError as error:
                wrong.append(f"route {place}, when: {error.what}")
        if wrong:
            raise UsageError("; ".join(wrong), where="traffic.toml")
        default = self.default or Variant.CHAMPION
        return lambda row: next((alias for meets, alias in conditions if meets(row)), default)


def load_traffic(path: Path, contract: Contract) -> TrafficPolicy | None:
    """Return the policy of a TOML file such as `contracts/traffic.toml`; None if there is no such file.

    Raises:
        UsageError: the file cannot be read, is not TOML, has an unknown key or an invalid value, or a condition that
            does not fit the contract.
    """
    if not os.path.lexists(path):  # a link that leads nowhere is not a missing file
        return None
    policy = read_policy(TrafficPolicy, path)
    policy.router(contract)
    return policy


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The current traffic of a challenger, stored in the registry so that all workers of all services agree.

    Args:
        id: identifies the experiment, and salts the hash that chooses the groups: each experiment chooses others.
        version: the challenger's version.
        mode: kind of traffic.
        share: of requests (shadow) or groups (canary), 0 to 1; 1 for routes.
        step: step of the canary, from 1; 0 for other kinds.
        started: when the experiment was started, ISO 8601, UTC.
        effective: when the share takes effect, likewise; in the future when it is written, so that all workers have
            loaded the version by then and switch at the same time.
        before: share until then.
    """

    id: str
    version: str
    mode: Mode
    share: float
    step: int = 0
    started: str
    effective: str
    before: float = 0.0

    @property
    def begins(self) -> datetime:
        """When it takes effect."""
        return datetime.fromisoformat(self.effective)

    def share_at(self, moment: float) -> float:
        """Return the share at a time in seconds since 1970."""
        return self.share if moment >= self.begins.timestamp() else self.before

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Experiment":
        """Return the experiment with the given values, as from `vars` and JSON.

        Raises:
            UsageError: a value is missing, unknown or invalid.
        """
        try:
            made = cls(**{**values, "mode": Mode(values["mode"])})
            sound = 0 < made.share <= 1 and 0 <= made.before <= 1 and all(map(str.strip, (made.id, made.version)))
            # JSON's true is 1 to Python, and text has no order among numbers.
            kinds = ((each.type, type(getattr(made, each.name))) for each in fields(cls))
            sound = sound and all(found is kind or (kind, found) == (float, int) for kind, found in kinds)
            sound = (
                sound
                and made.step >= 0
                and all(datetime.fromisoformat(each).tzinfo for each in (made.started, made.effective))
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"not an experiment: {type(error).__name__}") from error
        if not sound:
            raise UsageError("not an experiment: a value is out of range")
        return made


def chosen(salt: str, group: object, share: float) -> bool:
    """Return whether a group belongs to the share of groups that the salt selects.

    The result is the same in every process, and a group that is selected stays selected with every larger share.
    """
    digest = blake2b(f"{salt}:{group}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64
