"""Stages of an experiment: a challenger gets some of the requests, is judged, and is withdrawn or promoted."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ctcd.errors import GateRefused, NotFound, UsageError
from ctcd.settings import Settings
from ctcd.stages.connections import instance, open_registry, open_store, require_confirmed

if TYPE_CHECKING:
    from ctcd.contract.judging import Limits
    from ctcd.contract.traffic import Experiment, TrafficPolicy
    from ctcd.monitoring.findings import Finding
    from ctcd.registry.versions import Registry
    from ctcd.traffic.judging import Measure, Seen, Verdict


@dataclass(frozen=True, kw_only=True)
class VariantReport:
    """The requests of a variant since the step took effect; a value is None if it is not known.

    Args:
        variant: champion or challenger.
        effective: number of independent requests that `requests` count as; see `ctcd.model.reference.effective_rows`.
        failed: requests that it failed to answer, so that the champion answered, or that it failed to score as a shadow.
        median_ms: median response time in milliseconds; `p95_ms` is its 95th percentile.
        shares: share of the answers, 0 to 1, by class.
        agreement: share of the shadowed requests, 0 to 1, for which both predicted the same class.
        labelled: answers whose label is known.
        accuracy: share of labelled answers, 0 to 1, that are correct.
    """

    variant: str
    version: str
    requests: int
    effective: float
    failed: int
    median_ms: float | None
    p95_ms: float | None
    shares: dict[str, float]
    agreement: float | None
    labelled: int
    accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class TrafficReport:
    """An experiment and the result of judging it.

    Args:
        experiment: None if none is running; then the other fields are empty.
        measures: what was compared, with intervals that are valid at every look, and the limits.
        why: reason for the verdict.
        done: what was done; empty if nothing was.
        findings: findings raised by a withdrawal.
    """

    experiment: "Experiment | None" = None
    variants: tuple[VariantReport, ...] = ()
    measures: "tuple[Measure, ...]" = ()
    verdict: "Verdict | None" = None
    why: str = "no experiment runs"
    done: str = ""
    findings: "tuple[Finding, ...]" = ()


def start(settings: Settings, version: str, *, kind: str, reason: str = "") -> "Experiment":
    """Make a version the challenger: as a shadow, in the first step of a canary, or for the routes.

    It must have passed the gate against the champion. If it is the challenger already, its kind of traffic is changed;
    if it has this kind already, the current step continues with the share that the policy has now.

    Raises:
        GateRefused: it could not be promoted now; or, in production, the contract has drafts.
        NotFound: the version does not exist, or there is no champion.
        UsageError: it is the champion, another version is the challenger, or the policy does not define this kind.
    """
    from ctcd.contract.traffic import Mode

    require_confirmed(settings)
    policy, _ = _policy(settings)
    registry = open_registry(settings)
    running = registry.challenger()
    if running is not None and running[0].version != version:
        raise UsageError(
            f"version {running[0].version} is the challenger", where="traffic", hint="run: ctcd traffic stop"
        )
    if registry.champion().version == version:
        raise UsageError(f"version {version} is the champion", where="traffic", hint="choose another one")
    known = running[1] if running else None
    same = known if known and known.mode is Mode(kind) else None
    experiment = policy.experiment(Mode(kind), version, step=same.step or 1 if same else 1, running=known)
    if same and same.share == experiment.share:
        return same
    registry.challenge(experiment, reason=reason)
    return experiment


def step(settings: Settings, *, to: int | None = None, reason: str = "") -> "Experiment":
    """Move the canary to a step, by default the next one.

    Raises:
        GateRefused: the challenger could not be promoted now.
        NotFound: no experiment is running.
        UsageError: it is not a canary, or there is no such step.
    """
    registry = open_registry(settings)
    experiment = _running(registry)
    return _to_step(settings, registry, experiment, to or experiment.step + 1, reason)


def stop(settings: Settings, *, reason: str) -> "Experiment | None":
    """End the experiment: the champion answers all requests again. The version may still be promoted.

    Returns None if the experiment is not known, because its alias, tag or version was changed by hand.

    Raises:
        NotFound: no experiment runs.
    """
    registry = open_registry(settings)
    try:
        experiment = _running(registry)
    except (NotFound, UsageError) as error:
        if not registry.clear_challenge(reason=f"{reason}; {error.what}"):
            raise
        return None
    registry.end_challenge(experiment.version, reason=reason)
    return experiment


def status(settings: Settings) -> TrafficReport:
    """Judge the challenger by the requests since the step began, without changing anything.

    Raises:
        NotFound: there is no champion.
        UsageError: the policy has no limits.
    """
    return _look(settings)[0]


def judge(settings: Settings) -> TrafficReport:
    """Judge the challenger, and act on the result: withdraw it, start the next step, or promote it.

    It is promoted, by the stage `promote`, only if the policy says so; otherwise promotion is only recommended.

    Raises:
        GateRefused: it is to be promoted, and in production the contract has drafts.
        NotFound: there is no champion.
        UsageError: the policy has no limits.
    """
    from dataclasses import replace

    from ctcd.stages.promotion import promote
    from ctcd.traffic.judging import Verdict

    report, limits = _look(settings)
    experiment, why = report.experiment, f"judged by its requests: {report.why}"
    if experiment is None or limits is None:
        return report
    registry, version = open_registry(settings), experiment.version
    if report.verdict is Verdict.WITHDRAW:
        try:
            findings = (_raise(settings, experiment, report.measures),)
        finally:  # even if the store cannot be written to
            registry.end_challenge(version, reason=why, lost=True)
        return replace(report, done="withdrawn", findings=findings)
    if report.verdict is Verdict.END:
        registry.end_challenge(version, reason=report.why)
        # Reports a promotion whose process was killed before it could: the version has to be deployed.
        promoted = limits.promote and registry.champion().version == version
        return replace(report, done="promoted" if promoted else "ended")
    if report.verdict is Verdict.NEXT_STEP and experiment.step:
        changed = _to_step(settings, registry, experiment, experiment.step + 1, why)
        return replace(report, done=f"step {changed.step} begins")
    if report.verdict is Verdict.PROMOTE and limits.promote:
        promote(settings, version=version, reason=why)
        registry.end_challenge(version, reason=why)
        return replace(report, done="promoted")
    return report


def _policy(settings: Settings) -> "tuple[TrafficPolicy, Limits]":
    policy = instance(settings).traffic
    if policy is None:
        raise UsageError("there is no such file in the contract", where="traffic.toml", hint="see docs/traffic.md")
    if policy.limits is None:
        raise UsageError("there are no limits to judge by", where="traffic.toml, limits", hint="see docs/traffic.md")
    return policy, policy.limits


def _running(registry: "Registry") -> "Experiment":
    found = registry.challenger()
    if found is None:
        raise NotFound("no experiment runs", where="traffic", hint="run: ctcd traffic start VERSION")
    return found[1]


def _to_step(
    settings: Settings, registry: "Registry", experiment: "Experiment", number: int, reason: str
) -> "Experiment":
    from ctcd.contract.traffic import Mode

    if experiment.mode is not Mode.CANARY:
        raise UsageError(f"a {experiment.mode} has no steps", where="traffic", hint="run: ctcd traffic start")
    policy, _ = _policy(settings)
    changed = policy.experiment(Mode.CANARY, experiment.version, step=number, running=experiment)
    registry.challenge(changed, reason=reason)
    return changed


def _look(settings: Settings) -> "tuple[TrafficReport, Limits | None]":
    from datetime import UTC

    from ctcd.registry.versions import GATE, PENDING
    from ctcd.traffic.judging import Judgement, Stage, Verdict, judge
    from ctcd.traffic.observed import observe

    registry = open_registry(settings)
    running = registry.challenger()
    if running is None:
        return TrafficReport(), None
    policy, limits = _policy(settings)
    (info, experiment), champion, now = running, registry.champion(), datetime.now(UTC)
    theirs, mine = observe(
        open_store(settings),
        instance(settings).contract,
        experiment,
        champion=(champion.version, champion.run_id),
        challenger=(info.version, info.run_id),
        now=now,
        zone=settings.zone,
    )
    judgement = judge(theirs, mine, limits, Stage.of(policy, experiment, now))
    if champion.version == info.version:  # a promotion was killed before it ended the experiment
        judgement = Judgement(verdict=Verdict.END, why="it is the champion", measures=())
    elif judgement.verdict is not Verdict.WITHDRAW:
        try:
            registry.require_pass(info.version)
        except GateRefused as refused:
            deciding = (
                registry.info(info.version).tags.get(GATE) == PENDING
            )  # the gate is running, and may pass it again
            verdict = Verdict.CONTINUE if deciding else Verdict.END
            judgement = Judgement(verdict=verdict, why=str(refused), measures=judgement.measures)
    report = TrafficReport(
        experiment=experiment,
        variants=(_variant("champion", champion.version, theirs), _variant("challenger", info.version, mine)),
        measures=judgement.measures,
        verdict=judgement.verdict,
        why=judgement.why,
    )
    return report, limits


def _variant(variant: str, version: str, seen: "Seen") -> VariantReport:
    from ctcd.traffic.judging import QUANTILES, quantile

    median, p95 = (quantile(seen.elapsed_ms, share) for share in QUANTILES.values())
    answers = sum(seen.classes.values())
    return VariantReport(
        variant=variant,
        version=version,
        requests=seen.requests,
        effective=seen.effective,
        failed=seen.failed,
        median_ms=median,
        p95_ms=p95,
        shares={name: number / answers for name, number in sorted(seen.classes.items())} if answers else {},
        agreement=seen.agreed / seen.paired if seen.paired else None,
        labelled=seen.labelled,
        accuracy=seen.right / seen.labelled if seen.labelled else None,
    )


def _raise(settings: Settings, experiment: "Experiment", measures: "Sequence[Measure]") -> "Finding":
    """Raise the finding about a withdrawn challenger; repeating the call raises no second one."""
    from ctcd.monitoring.findings import Kind, raise_finding
    from ctcd.traffic.judging import State

    broken = [each for each in measures if each.state is State.BROKEN]
    return raise_finding(
        open_store(settings),
        instance(settings).contract,
        kind=Kind.CHALLENGER,
        subject=f"version {experiment.version}, experiment {experiment.id}",
        evidence={
            each.name: {"at_least": each.loss_low, "limit": each.limit, "value": each.challenger.value}
            for each in broken
        },
        day=settings.today(),
    )
