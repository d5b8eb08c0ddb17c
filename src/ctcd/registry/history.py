"""What was in service when, and who changed it: one MLflow run for each change, in an experiment of its own.

Whoever promotes, rolls back or deploys needs the registry anyway, while the store need not be reachable from there; and
an experiment survives when the registered model is deleted, or made again with the same version numbers.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Self

from mlflow import MlflowClient
from mlflow.entities import Run

from ctcd.registry import NOT_GIVEN
from ctcd.registry.tracking import active_experiment
from ctcd.settings import Settings

NOT_RECORDED = "not recorded"
"""Author and reason of a change that was made before these were recorded."""
MAX_TEXT = 4_000
"""Characters of a text that is kept: MLflow's limit is twice as much."""
_PAGE = 1_000
"""Changes that are read at a time."""


class What(StrEnum):
    """Kinds of changes."""

    PROMOTED = "promoted"
    """It became the champion."""
    ROLLED_BACK = "rolled back to"
    """It became the champion again."""
    WITHDRAWN = "withdrawn"
    """It is no longer the champion, and there is none now."""
    DEPLOYED = "deployed"
    """It runs at a target; the champion need not have changed."""
    STOPPED = "stopped"
    """It no longer runs at a target, and nothing else runs there."""
    CHALLENGES = "challenges"
    """From now on it gets a share of the requests, beside the champion; or another share."""
    CHALLENGE_ENDED = "ended as challenger"
    """It gets no requests any more: somebody stopped it, or it could no longer be promoted, however well it did."""
    CHALLENGE_LOST = "withdrawn as challenger"
    """It gets no requests any more, because it broke a limit."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of what is in service, recorded just before the champion changes or right after a deployment or its end.

    Args:
        at: when, ISO 8601, UTC.
        what: one of `What`.
        version: version that it is about, as text.
        run_id: MLflow run that trained that version.
        before: version that it replaced; empty: none.
        by: who made it.
        why: the reason that was given.
        target: where it was deployed to or stopped, with the environment; which requests a challenger gets;
            empty for what changes the champion only.
        artifact: what was deployed or stopped: image by digest or tag of the Bento; empty likewise.
    """

    at: str
    what: str
    version: str
    run_id: str
    before: str = ""
    by: str = NOT_RECORDED
    why: str = NOT_RECORDED
    target: str = ""
    artifact: str = ""

    @classmethod
    def of(cls, run: Run) -> Self:
        """Return the change that a run records."""
        return cls(**{each.name: run.data.tags[each.name] for each in fields(cls) if each.name in run.data.tags})


def in_force(changes: Sequence[Change], moment: datetime) -> tuple[str | None, dict[str, str]]:
    """Return the champion and what ran at each target at a moment, according to changes, the oldest first.

    Before the first change on record, the version that it replaced was in service.
    """
    ended, found = (What.WITHDRAWN, What.STOPPED), dict[str, str]()
    for each in changes:
        if each.what not in (What.PROMOTED, What.ROLLED_BACK, What.DEPLOYED, *ended):
            continue
        if datetime.fromisoformat(each.at) < moment:
            found[each.target] = "" if each.what in ended else each.version
        else:
            found.setdefault(each.target, each.version if each.what in ended else each.before)
    champion = found.pop("", "")  # changes of the champion have no target
    return champion or None, {target: version for target, version in found.items() if version}


class History:
    """The record of what was in service for one contract's model.

    Args:
        client: a client from `tracking.connect`.
        name: name of the registered model.
        settings: say who makes the changes.
    """

    def __init__(self, client: MlflowClient, name: str, settings: Settings) -> None:
        self._client, self._name, self._settings = client, f"{name}_history", settings

    def record(
        self,
        what: What,
        version: str,
        run_id: str,
        *,
        before: str | None = None,
        why: str,
        target: str = "",
        artifact: str = "",
    ) -> None:
        """Record a change; see `Change`."""
        now = datetime.now(UTC)
        change = Change(
            at=now.isoformat(timespec="microseconds"),
            what=what.value,
            version=version,
            run_id=run_id,
            before=before or "",
            by=self._settings.who[:MAX_TEXT],
            why=(why or NOT_GIVEN)[:MAX_TEXT],
            target=target,
            artifact=artifact,
        )
        run = self._client.create_run(
            active_experiment(self._client, self._name).experiment_id,
            start_time=int(now.timestamp() * 1_000),
            tags={name: value for name, value in asdict(change).items() if value},
            run_name=f"version {version} {what.value}",
        )
        self._client.set_terminated(run.info.run_id)

    def changes(self) -> list[Change]:
        """Return all changes on record, the oldest first."""
        experiment = self._client.get_experiment_by_name(self._name)
        if experiment is None:
            return []
        found: list[Change] = []
        token = None
        while True:
            page = self._client.search_runs(
                [experiment.experiment_id], "tags.what LIKE '%'", max_results=_PAGE, page_token=token
            )
            found += map(Change.of, page)
            token = page.token
            if not token:
                return sorted(found, key=lambda each: each.at)
