"""The stages of the loop, one function each: what verbs, workflows and DAGs run.

A stage connects to what the settings name, does its work through the library and returns a report of plain values.
Heavy packages are imported by the stage that needs them, so that each starts fast.
"""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from contracts.features import CONTRACT
from credit_score.errors import NotFound, UsageError
from credit_score.progress import Progress, silent
from credit_score.settings import Settings

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sqlalchemy import Engine

    from credit_score.batch import BatchReport
    from credit_score.contract.validation import ValidationReport
    from credit_score.deployment.plan import Plan
    from credit_score.deployment.release import Shipped, Unshipped
    from credit_score.deployment.revert import Reverted
    from credit_score.deployment.smoke import SmokeReport
    from credit_score.deployment.target import Deployment, Probe, Target
    from credit_score.promotion.bento import BentoReport
    from credit_score.promotion.gate import GateOutcome
    from credit_score.promotion.registry import Move, Registry
    from credit_score.store.ingest import IngestReport
    from credit_score.store.performance import PerformanceReport
    from credit_score.store.scoring import ScoringReport
    from credit_score.store.snapshot import SnapshotReport
    from credit_score.training.distributed import Prepared, TrialReport
    from credit_score.training.report import TrainingReport
    from credit_score.watch.report import WatchReport

IMAGE_TARGETS = ("compose", "kubernetes")
"""Deployment targets that take an image."""


def migrate(settings: Settings) -> None:
    """Bring the feature store's schema up to date."""
    from credit_score.store import migrations

    migrations.upgrade(settings.store_url)


def open_store(settings: Settings) -> "Engine":
    """Connect to the feature store.

    A SQLite file is migrated on the way; a server's schema is changed only by `migrate`.

    Raises:
        Unreachable: the store does not answer.
        NotFound: the server's schema is not up to date.
    """
    from credit_score.store import engine, migrations

    store = engine.connect(settings.store_url)
    if migrations.pending(settings.store_url):
        if store.dialect.name != "sqlite":
            raise NotFound(
                "the schema is not up to date",
                where=engine.safe_url(settings.store_url),
                hint="run: credit-score migrate",
            )
        migrations.upgrade(settings.store_url)
    return store


def ingest(settings: Settings, source: Path, *, progress: Progress = silent) -> "IngestReport":
    """Bring a file or a folder of raw tables into the store; rows that break the contract are put aside."""
    from credit_score.store.ingest import ingest

    return ingest(open_store(settings), CONTRACT, source, chunk_rows=settings.ingest_chunk_rows, progress=progress)


def snapshot(settings: Settings, base_dt: date, *, months: int | None = None) -> "SnapshotReport":
    """Take the training snapshot of a day."""
    from credit_score.store.snapshot import take_snapshot

    return take_snapshot(
        open_store(settings),
        CONTRACT,
        base_dt,
        months=months or settings.snapshot_months,
        keep_days=settings.snapshot_keep_days,
    )


def known_day(settings: Settings, base_dt: date | None) -> date:
    """Return the day that was asked for, else that of the newest snapshot.

    Raises:
        NotFound: there is no snapshot.
    """
    from credit_score.store.snapshot import latest_snapshot

    day = base_dt or latest_snapshot(open_store(settings), CONTRACT)
    if day is None:
        raise NotFound("there is no snapshot", where=CONTRACT.snapshot_table, hint="run: credit-score snapshot")
    return day


def validate(settings: Settings, base_dt: date) -> "ValidationReport":
    """Check the snapshot of a day against the contract; the report is kept as JSON and as a page, whatever it says.

    Raises:
        ContractBroken: a rule is broken; carries the report.
    """
    from credit_score.contract.schemas import snapshot_schema
    from credit_score.contract.validation import ContractBroken, examine
    from credit_score.contract.validation_report import write_validation
    from credit_score.store.snapshot import read_snapshot

    frame = read_snapshot(open_store(settings), CONTRACT, base_dt)
    where = f"{CONTRACT.snapshot_table} of {base_dt}"
    report = examine(frame, snapshot_schema(CONTRACT), CONTRACT, where=where)
    write_validation(report, settings.reports / "validation", base_dt.isoformat())
    if report.breaches:
        raise ContractBroken(report)
    return report


def watch(settings: Settings, base_dt: date, *, accept_change: bool = False) -> "WatchReport":
    """Hold the snapshot of a day, inside the database, against the contract and the last accepted snapshot."""
    from credit_score.watch.run import watch

    return watch(settings, CONTRACT, base_dt, accept_change=accept_change)


def train(
    settings: Settings, base_dt: date, *, profile: str, force: bool = False, progress: Progress = silent
) -> "TrainingReport":
    """Train on the snapshot of a day; the snapshot has to keep the contract."""
    from credit_score.store.snapshot import read_snapshot
    from credit_score.training.train import train

    validate(settings, base_dt)
    return train(
        read_snapshot(open_store(settings), CONTRACT, base_dt),
        CONTRACT,
        profile=profile,
        base_dt=base_dt,
        seed=settings.seed,
        threads=settings.threads,
        settings=settings,
        progress=progress,
        force=force,
    )


def prepare_training(settings: Settings, base_dt: date, *, profile: str) -> "Prepared":
    """Prepare a training on the snapshot of a day whose trials run in processes of their own."""
    from credit_score.store.snapshot import read_snapshot
    from credit_score.training.distributed import prepare

    validate(settings, base_dt)
    frame = read_snapshot(open_store(settings), CONTRACT, base_dt)
    return prepare(frame, CONTRACT, profile=profile, base_dt=base_dt, seed=settings.seed, settings=settings)


def run_trial(settings: Settings, training: str, index: int, *, progress: Progress = silent) -> "TrialReport":
    """Fit one trial of a training that was prepared."""
    from credit_score.training.distributed import run_trial

    return run_trial(training, index, CONTRACT, threads=settings.threads, settings=settings, progress=progress)


def finish_training(settings: Settings, training: str) -> "TrainingReport":
    """Choose the best trial of a training and log it."""
    from credit_score.training.distributed import finish

    return finish(training, CONTRACT, settings=settings)


def gate(
    settings: Settings,
    *,
    run_id: str | None = None,
    base_dt: date | None = None,
    today: date | None = None,
    progress: Progress = silent,
) -> "GateOutcome":
    """Judge a training run, by default the newest finished one; the verdict is in the report, nothing is promoted."""
    from credit_score import tracking
    from credit_score.promotion.gate import gate
    from credit_score.promotion.policy import load_policy

    return gate(
        tracking.connect(settings),
        settings,
        CONTRACT,
        load_policy(),
        run_id=run_id,
        base_dt=base_dt,
        today=today,
        progress=progress,
    )


def promote(settings: Settings, *, version: str | None = None) -> "Move":
    """Make a version the champion; by default the newest one that the gate has passed.

    Raises:
        NotFound: the gate has passed no version yet.
        GateRefused: the gate has not passed that version, or not against today's champion.
    """
    from credit_score import tracking

    registry = open_registry(settings)
    with tracking.answering(settings):
        return registry.promote(version or registry.newest_passed())


def rollback(settings: Settings, *, to: str | None = None, reason: str = "") -> "Move":
    """Put the previous champion, or a given earlier one, back into service."""
    from credit_score import tracking

    registry = open_registry(settings)
    with tracking.answering(settings):
        return registry.rollback(to, reason=reason)


def open_registry(settings: Settings) -> "Registry":
    """Connect to the model registry."""
    from credit_score import tracking
    from credit_score.promotion.registry import Registry

    return Registry(tracking.connect(settings), CONTRACT)


def build(settings: Settings, *, version: str | None = None) -> "BentoReport":
    """Build the Bento of a version, by default the champion, or find it built already.

    Raises:
        NotFound: there is no champion yet, or no such version.
    """
    from credit_score import tracking
    from credit_score.promotion import bento
    from credit_score.promotion.registry import CHAMPION
    from credit_score.serving.model import ModelInfo

    registry = open_registry(settings)
    with tracking.answering(settings):
        found = registry.champion() if version is None else registry.info(version)
        scorer = registry.scorer_folder(found.version, settings.home.resolve() / "scorers" / found.version)
    info = ModelInfo(
        model_name=found.model_name,
        version=found.version,
        alias=CHAMPION,
        run_id=found.run_id,
        model_uri=found.uri,
        creation_time=found.created_at,
    )
    return bento.build(info, scorer, settings, CONTRACT, revision=tracking.git_revision(settings))


def service_url(settings: Settings) -> str:
    """Return where the service answers."""
    return settings.service_url


def check_deployment(settings: Settings) -> "Plan":
    """Compare what answers with the champion."""
    from credit_score import tracking
    from credit_score.deployment import api
    from credit_score.deployment.plan import plan
    from credit_score.promotion.registry import CHAMPION

    registry = open_registry(settings)
    with tracking.answering(settings):
        champion = registry.find(CHAMPION)
    return plan(api.model_info(settings.service_url, settings.client_key), champion, settings.service_url)


def deploy(
    settings: Settings, *, target: str, image: str = "", probed: bool = False, progress: Progress = silent
) -> "Deployment":
    """Replace what is deployed by the champion.

    The target `process` gets the champion's Bento, which is built; the others get an image: the one given, or the one that
    the registry has for the champion.

    Args:
        settings: where to.
        target: one of `TARGETS`.
        image: image by digest, for the targets that take one.
        probed: whether the new one has to pass its probes before the old one is given up.
        progress: told how far it is.

    Raises:
        NotFound: there is no champion yet, or no image of it.
        UsageError: it cannot start; what was deployed before is put back.
        Unreachable: it is not ready in time; what was deployed before is put back.
        DeploymentBroken: it fails its probes; what was deployed before is put back.
    """
    from credit_score.deployment.target import unprobed
    from credit_score.promotion.registry import CHAMPION

    where = _target(settings, target, progress)
    if target in IMAGE_TARGETS:
        return deploy_version(settings, CHAMPION, target=target, image=image, probed=probed, progress=progress)
    built = build(settings)
    version = built.tag.rpartition(":v")[2]
    probe = _probe(settings, version) if probed else unprobed
    return where.deploy(built.tag, version=version, digest=built.digest, probe=probe)


def deploy_version(
    settings: Settings, version: str, *, target: str, image: str = "", probed: bool = True, progress: Progress = silent
) -> "Deployment":
    """Replace what is deployed by the image of a version, champion or not; for what it raises see `deploy`."""
    from credit_score import tracking
    from credit_score.deployment.image import digest_of
    from credit_score.deployment.target import unprobed
    from credit_score.promotion.registry import CHAMPION

    if target not in IMAGE_TARGETS:
        raise UsageError(f"{target} takes no image", where="deployment", hint=f"one of {', '.join(IMAGE_TARGETS)}")
    registry = open_registry(settings)
    with tracking.answering(settings):
        info = registry.champion() if version == CHAMPION else registry.info(version)
    image = image or released_image(settings, version=info.version)
    probe = _probe(settings, info.version) if probed else unprobed
    deployer = _target(settings, target, progress)
    return deployer.deploy(image, version=info.version, digest=digest_of(image), probe=probe)


def released_image(settings: Settings, *, version: str | None = None) -> str:
    """Return the image that was released of a version, by default of the champion.

    Raises:
        NotFound: there is no such version, or none was.
    """
    from credit_score import tracking
    from credit_score.promotion.registry import IMAGE

    registry = open_registry(settings)
    with tracking.answering(settings):
        info = registry.champion() if version is None else registry.info(version)
    if IMAGE not in info.tags:
        raise NotFound(
            "no image was released",
            where=f"version {info.version} of {info.model_name}",
            hint="release it, or give one: --image",
        )
    return info.tags[IMAGE]


def smoke(settings: Settings) -> "SmokeReport":
    """Probe the deployment through its API: does it answer as the champion does?"""
    from credit_score.promotion.registry import CHAMPION

    return smoke_version(settings, CHAMPION, settings.service_url)


def smoke_version(settings: Settings, version: str, url: str) -> "SmokeReport":
    """Probe what answers at a URL: does it answer as a version does?"""
    from credit_score import tracking
    from credit_score.deployment.smoke import smoke
    from credit_score.model.scorer import Scorer
    from credit_score.promotion.registry import CHAMPION

    registry = open_registry(settings)
    with tracking.answering(settings):
        info = registry.champion() if version == CHAMPION else registry.info(version)
        folder = registry.scorer_folder(info.version, settings.home.resolve() / "scorers" / info.version)
    return smoke(url, info, Scorer.load(folder), CONTRACT, key=settings.client_key)


def revert(settings: Settings, *, version: str, reason: str, target: str, progress: Progress = silent) -> "Reverted":
    """Roll back a version that does not work where it is served, and deploy the one before it.

    Where there is none before it, it is not left deployed. Run again, it comes to the same end.
    """
    from credit_score import tracking
    from credit_score.deployment import api
    from credit_score.deployment.revert import Reverted, roll_back

    registry = open_registry(settings)
    with tracking.answering(settings):
        rolled_back, champion = roll_back(registry, version, reason)
    if champion is not None:
        deploy(settings, target=target, progress=progress)
    elif (api.model_info(settings.service_url, settings.client_key) or {}).get("version") == version:
        stop_deployment(settings, target=target)
    return Reverted(rolled_back=rolled_back, champion=champion.version if champion else None, reason=reason)


def stop_deployment(settings: Settings, *, target: str) -> bool:
    """End what is deployed; return whether anything was."""
    return _target(settings, target, silent).stop()


def tried(settings: Settings, image: str, *, network: str = "bridge") -> "AbstractContextManager[str]":
    """Return a context that runs an image on this machine's Docker and gives its URL."""
    from credit_score.deployment.trial import on_trial

    return on_trial(settings, image, network=network)


def try_image(settings: Settings, version: str, image: str) -> "SmokeReport":
    """Run an image for as long as its probes take: does it answer as a version does?"""
    # What is tried leaves no trace in the store.
    with tried(settings.model_copy(update={"feature_store_url": SecretStr("")}), image) as url:
        report = smoke_version(settings, version, url)
    report.require_passed()
    return report


def judge(settings: Settings, *, version: str | None = None, progress: Progress = silent) -> "GateOutcome":
    """Let the gate decide about a version, by default the one of the newest finished training."""
    from credit_score import tracking

    if version is None:
        return gate(settings, progress=progress)
    registry = open_registry(settings)
    with tracking.answering(settings):
        run_id = registry.info(version).run_id
    return gate(settings, run_id=run_id, progress=progress)


def ship(
    settings: Settings, version: str, *, image: str, target: str, promoted: bool, progress: Progress = silent
) -> "Shipped":
    """Deploy the image of a version that the gate has passed, and probe it.

    If it fails, what was deployed before is back, and so is the champion of before.

    Args:
        settings: where to.
        version: the version.
        image: its image, by digest.
        target: one of `IMAGE_TARGETS`.
        promoted: whether it becomes the champion, as in production; not so where it is only tried.
        progress: told how far it is.

    Raises:
        GateRefused: the gate has not passed the version; nothing is changed.
        CreditScoreError: as `deploy` does.
    """
    from credit_score import tracking
    from credit_score.deployment.image import require_digest
    from credit_score.deployment.release import Shipped
    from credit_score.deployment.revert import roll_back

    registry = open_registry(settings)
    with tracking.answering(settings):
        require_digest(image)
        registry.require_pass(version)
        registry.record_image(version, image)
        move = registry.promote(version) if promoted else None
    try:
        deployment = deploy_version(settings, version, target=target, image=image, progress=progress)
    except BaseException as error:
        # Also when it is interrupted.
        if move and move.changed:
            with tracking.answering(settings):
                roll_back(registry, version, f"its deployment failed: {error}")
        raise
    return Shipped(deployment=deployment, promoted=promoted, champion_before=move.before if move else None)


def unship(
    settings: Settings, *, to: str | None, reason: str, target: str, demoted: bool, progress: Progress = silent
) -> "Unshipped":
    """Deploy the image of the previous champion, probe it, and make it the champion again.

    The alias moves last: if the old image does not answer, nothing is changed.

    Args:
        settings: where to.
        to: version to go back to; by default the previous champion.
        reason: why, for the record.
        target: one of `IMAGE_TARGETS`.
        demoted: whether the alias moves too, as in production.
        progress: told how far it is.

    Raises:
        NotFound: there is no previous champion, or no image of it.
        CreditScoreError: as `deploy` does.
    """
    from credit_score import tracking
    from credit_score.deployment.release import Unshipped

    registry = open_registry(settings)
    with tracking.answering(settings):
        found = registry.rollback_target(to)
    deployment = deploy_version(settings, found.version, target=target, progress=progress)
    rolled_back = None
    if demoted:
        with tracking.answering(settings):
            rolled_back = registry.rollback(found.version, reason=reason).before
    return Unshipped(deployment=deployment, rolled_back=rolled_back, reason=reason)


def render_manifests(settings: Settings, *, image: str, version: str) -> str:
    """Return the Kubernetes manifests of an image."""
    from credit_score.deployment.kubernetes import render

    return render(settings, image, version)


def _probe(settings: Settings, version: str) -> "Probe":
    def probe(url: str) -> None:
        smoke_version(settings, version, url).require_passed()

    return probe


def _target(settings: Settings, name: str, progress: Progress) -> "Target":
    from credit_score.deployment.compose import ComposeTarget
    from credit_score.deployment.kubernetes import KubernetesTarget
    from credit_score.deployment.process import ProcessTarget

    targets: dict[str, Callable[[Settings, Progress], Target]] = {
        "process": ProcessTarget,
        "compose": ComposeTarget,
        "kubernetes": KubernetesTarget,
    }
    if name not in targets:
        raise UsageError(f"there is no target {name!r}", where="deployment", hint=f"one of {', '.join(targets)}")
    return targets[name](settings, progress)


def predict(settings: Settings, source: str, out: Path | None = None, *, progress: Progress = silent) -> "BatchReport":
    """Score a file, or a table of the store, with the champion."""
    from credit_score import tracking
    from credit_score.batch import BatchScorer
    from credit_score.model.scorer import Scorer

    registry = open_registry(settings)
    with tracking.answering(settings):
        version = registry.champion().version
        folder = registry.scorer_folder(version, settings.home.resolve() / "scorers" / version)
    scorer = BatchScorer(
        Scorer.load(folder), version, CONTRACT, chunk_rows=settings.ingest_chunk_rows, progress=progress
    )
    path = Path(source)
    out = out or Path(f"{path.name.partition('.')[0]}.predictions.csv")
    if source in (CONTRACT.features_table, CONTRACT.snapshot_table) and not path.exists():
        return scorer.score_table(open_store(settings), source, out)
    return scorer.score_file(path, out)


def score(settings: Settings, *, progress: Progress = silent) -> "ScoringReport":
    """Score the newest features of each group that the champion has not scored yet, into a table of the store."""
    from credit_score import tracking
    from credit_score.model.scorer import Scorer
    from credit_score.promotion.registry import CHAMPION
    from credit_score.store.scoring import ScoringReport, score_new
    from credit_score.store.tables import build_tables

    registry = open_registry(settings)
    with tracking.answering(settings):
        champion = registry.find(CHAMPION)
        if champion is None:
            return ScoringReport(model_version=None, rows=0, shares={}, table=build_tables(CONTRACT).scores.name)
        version = champion.version
        folder = registry.scorer_folder(version, settings.home.resolve() / "scorers" / version)
    return score_new(
        open_store(settings),
        CONTRACT,
        Scorer.load(folder),
        version,
        chunk_rows=settings.ingest_chunk_rows,
        progress=progress,
    )


def performance(settings: Settings, base_dt: date, *, period: str) -> "PerformanceReport":
    """Compare the predictions before a day with the labels that came since, and keep the result in the store."""
    from zoneinfo import ZoneInfo

    from credit_score.store.performance import Period, write_performance

    return write_performance(
        open_store(settings), CONTRACT, base_dt, period=Period(period), zone=ZoneInfo(settings.timezone)
    )


def logged_predictions(settings: Settings, request_id: str) -> int:
    """Return how many rows of the prediction log have a request id."""
    from sqlalchemy import func, select

    from credit_score.store.tables import build_tables

    predictions = build_tables(CONTRACT).predictions
    with open_store(settings).connect() as connection:
        counted = select(func.count()).select_from(predictions).where(predictions.c.request_id == request_id)
        return connection.scalar(counted) or 0
