"""Answers under load while versions come and go and workers die: is each one explained, by its version and its second?"""

import random
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from support.instance import CONTRACT, INSTANCE
from support.load import Answers, load, wait
from support.serving import logged, logged_ids

from benchmarks.faults import SHIPPING, WORKER, prepare
from benchmarks.stores import own_store
from ctcd.cli.output import table
from ctcd.registry.versions import AGAINST, GATE, PASSED, ROLLED_BACK, Registry
from ctcd.scoring.replay import ReplayReport
from ctcd.serving.launch import RunningService, running
from ctcd.stages import audit

ANSWERS = 100_000
"""Answers that clients get at least."""
CLIENTS = 8
VERSIONS = (20, 30, 40, 50)
"""Iterations of the models, which differ in almost every answer."""
LONGEST = 4.0
"""Longest time between two changes, seconds."""
KILLED = 5
"""After one in so many changes a process is killed."""
SEED = 1


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """What the log, the replay and the history say in the end.

    Args:
        answered: answers that clients got.
        refused: answers other than 200.
        broken: requests whose connection broke before the answer, as of a worker that was killed.
        changes: promotions and rollbacks.
        killed: workers and shipping processes that were killed.
        lost: answers that are not in the log.
        twice: request ids that are in it more than once.
        unseen: rows of answers that no client got.
        mistaken: answers that are logged with another version than the client was told.
        replayed: rows that were computed again.
        different: those that came out differently.
        not_computed: those that could not be computed.
        replay_seconds: how long that took.
        seconds: seconds from the first answer to the last.
        unnamed: those with an answer for which the history names other versions than the ones that clients were told.
        unrecorded: changes that are not in the history as they were made.
    """

    answered: int
    refused: int
    broken: int
    changes: int
    killed: int
    lost: int
    twice: int
    unseen: int
    mistaken: int
    replayed: int
    different: int
    not_computed: int
    replay_seconds: float
    seconds: int
    unnamed: int
    unrecorded: int


@dataclass
class _Moves:
    """Promotes and rolls back at random, and kills a process now and then."""

    registry: Registry
    service: RunningService
    chance: random.Random
    made: list[tuple[str, str, str]]
    """What was done, to which version, and why."""
    killed: int = 0

    def move(self) -> None:
        champion = self.registry.champion().version
        target = self.registry.info(
            self.chance.choice([str(each) for each in range(1, len(VERSIONS) + 1) if str(each) != champion])
        )
        why = f"change {len(self.made) + 1}"
        if ROLLED_BACK in target.tags or self.chance.random() < 0.5:
            self._passed(target.version, champion)  # by which a version may be gone back to
            self.registry.rollback(target.version, reason=why)
            self.made.append(("rolled back to", target.version, why))
        else:
            self._passed(target.version, champion)
            self.registry.promote(target.version, reason=why)
            self.made.append(("promoted", target.version, why))

    def _passed(self, version: str, champion: str) -> None:
        for tag, value in ((GATE, PASSED), (AGAINST, champion)):
            self.registry.client.set_model_version_tag(CONTRACT.name, version, tag, value)

    def kill(self) -> None:
        mark = self.chance.choice((WORKER, WORKER, SHIPPING))
        family = psutil.Process(self.service.process.pid).children(recursive=True)
        with suppress(psutil.NoSuchProcess, IndexError):  # it has ended by itself, or is not there again yet
            self.chance.choice([each for each in family if mark in each.cmdline()]).kill()
            self.killed += 1


def run(_data: Path | None, answers: int = ANSWERS) -> list[AuditResult]:
    """Answer until there are enough, then explain everything."""
    with own_store(INSTANCE.migrations) as store:
        settings, registry, tag = prepare(store.folder, store.url, VERSIONS)
        settings = settings.model_copy(update={"contracts": INSTANCE.folder})
        chance = random.Random(SEED)  # noqa: S311 - not for secrets
        with running(tag, settings) as service, load(service, CLIENTS, pause=0) as seen:
            moves = _Moves(registry, service, chance, [])
            while len(seen.ids) < answers:
                time.sleep(chance.uniform(0.2, LONGEST))
                moves.move()
                if len(moves.made) % KILLED == 0:
                    moves.kill()
        # A service that starts again takes over what the others have left.
        with running(tag, settings):
            wait(lambda: set(seen.ids) <= set(logged_ids(store.url)), 300)
        replay = audit.replay(settings)
        rows = logged(store.url)
        result = _result(seen, rows, moves, replay, audit.history(settings))
    values = asdict(result)
    shown = {name: round(value, 1) if isinstance(value, float) else value for name, value in values.items()}
    table(
        "While versions change and workers die (target: 0 from lost on, but unseen)",
        ("measurement", "value"),
        list(shown.items()),
    )
    return [result]


def _result(
    seen: Answers,
    rows: list[dict[str, Any]],
    moves: _Moves,
    replay: ReplayReport,
    history: audit.HistoryReport,
) -> AuditResult:
    counts = Counter(str(row["request_id"]) for row in rows)
    versions = {str(row["request_id"]): row["model_version"] for row in rows}
    reported: dict[datetime, set[object]] = defaultdict(set)
    for row in rows:
        reported[row["created_at"].replace(microsecond=0)].add(
            seen.ids.get(str(row["request_id"]), row["model_version"])
        )
    first, last = min(reported), max(reported)
    every = [first + timedelta(seconds=number) for number in range(int((last - first).total_seconds()) + 1)]
    times = [
        (datetime.fromisoformat(each.first), datetime.fromisoformat(each.last), each.model_version)
        for each in history.answering
    ]
    unnamed = 0
    for second in every:
        named = {version for begin, end, version in times if begin <= second <= end}
        unnamed += second in reported and named != reported[second]
    recorded = [(each.what, each.version, each.why) for each in history.changes]
    return AuditResult(
        answered=len(seen.ids),
        refused=seen.refused,
        broken=seen.broken,
        changes=len(moves.made),
        killed=moves.killed,
        lost=len(set(seen.ids) - set(counts)),
        twice=sum(count > 1 for count in counts.values()),
        unseen=len(set(counts) - set(seen.ids)),
        mistaken=sum(versions[each] != version for each, version in seen.ids.items() if each in versions),
        replayed=replay.answers,
        different=replay.different,
        not_computed=replay.not_computed,
        replay_seconds=replay.seconds,
        seconds=len(every),
        unnamed=unnamed,
        unrecorded=sum(one != other for one, other in zip(moves.made, recorded, strict=True)),
    )
