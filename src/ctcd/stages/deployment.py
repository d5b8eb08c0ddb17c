"""Stages of a deployment: build, deploy, probe, roll back."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydantic import SecretStr

from ctcd.deployment.target import Deployment, Target, TargetName, unprobed
from ctcd.errors import CtcdError, NotFound, Unreachable, UsageError, shown
from ctcd.git import git_revision
from ctcd.progress import Progress, silent
from ctcd.settings import Settings
from ctcd.stages.connections import instance, open_registry, require_confirmed

if TYPE_CHECKING:
    from ctcd.deployment.bento import BentoReport
    from ctcd.deployment.check import DeploymentCheck
    from ctcd.deployment.rollback import Rollback
    from ctcd.deployment.smoke import SmokeReport
    from ctcd.registry.versions import RegisteredVersion, Registry


def build(settings: Settings, *, version: str | None = None) -> "BentoReport":
    """Build the Bento of a version, by default of the champion; one with the same content is kept.

    Raises:
        NotFound: there is no champion yet, or no such version.
    """
    from ctcd.deployment import bento

    registry = open_registry(settings)
    found = registry.champion() if version is None else registry.info(version)
    scorer = registry.scorer_folder(found, settings.scorers)
    return bento.build(found.model_info(), scorer, settings, instance(settings), revision=git_revision(settings))


@dataclass(frozen=True, kw_only=True)
class Servable:
    """The tag of a Bento that can be served; `doubt` says why it may not be that of the champion, empty if it is."""

    tag: str
    doubt: str = ""


def servable(settings: Settings) -> Servable:
    """Build the Bento of the champion; if the registry cannot say which one that is, of the last one known.

    The last known one is the champion that a service fetched last, otherwise that of the newest Bento.

    Raises:
        NotFound: there is no champion yet, and none was served before.
        Unreachable: the registry does not answer, and no champion was served before.
    """
    from ctcd.deployment import bento
    from ctcd.serving.champion.follower import last_fetched

    try:
        return Servable(tag=build(settings).tag)
    except (NotFound, Unreachable) as error:
        loaded = instance(settings)
        fetched = last_fetched(settings.champions, loaded.contract)
        if fetched:
            folder, served = fetched
            built = bento.build(served.info, folder, settings, loaded, revision=git_revision(settings))
            return Servable(tag=built.tag, doubt=str(error))
        tag = bento.newest(loaded.contract, settings)
        if tag is None:
            raise
        return Servable(tag=tag, doubt=str(error))


def released_image(settings: Settings, *, version: str | None = None) -> str:
    """Return the image that was released for a version, by default for the champion.

    Raises:
        NotFound: there is no champion yet or no such version, or no image was released for it.
    """
    from ctcd.registry.versions import IMAGE

    registry = open_registry(settings)
    info = registry.champion() if version is None else registry.info(version)
    if IMAGE not in info.tags:
        raise NotFound(
            "no image was released",
            where=f"version {info.version} of {info.model_name}",
            hint="release it, or give one: --image",
        )
    return info.tags[IMAGE]


def check(settings: Settings) -> "DeploymentCheck":
    """Compare the version that the service reports with the champion."""
    from ctcd.deployment import client
    from ctcd.deployment.check import check
    from ctcd.registry.versions import CHAMPION

    champion = open_registry(settings).find(CHAMPION)
    return check(client.model_info(settings.service_url, settings.client_key), champion, settings.service_url)


def render_manifests(settings: Settings, *, image: str | None = None, version: str | None = None) -> str:
    """Return the Kubernetes manifests of a version, by default the champion, for the settings' environment.

    The image is named by digest; by default it is the one that was released for the version.
    """
    from ctcd.deployment.kubernetes import render

    if image is None:
        image = released_image(settings, version=version)
    if version is None:
        version = open_registry(settings).champion().version
    return render(settings, instance(settings).contract.slug, image, version)


def deploy(
    settings: Settings,
    *,
    target: TargetName,
    version: str | None = None,
    image: str | None = None,
    promote: bool = False,
    reason: str = "",
    probed: bool = True,
    progress: Progress = silent,
) -> Deployment:
    """Replace what is deployed by a version, and restore what was deployed before if that fails.

    The version is by default the champion; any other one must have passed the gate. The target `process` runs its
    Bento, which is built. The others run an image, named by digest: by default the one that was released for the
    version; one that is given is recorded. `promote` makes the version the champion, as in production, and a failed
    deployment takes that back. The reason is recorded. If it is `probed`, the new deployment has to pass its probes
    before the old one is given up.

    Raises:
        GateRefused: the version has not passed the gate, or the contract has drafts in production; nothing is changed.
        NotFound: there is no champion, no such version, or no image for it.
        UsageError: the deployment cannot start, or an image was given that the target does not run or that a tag names.
        Unreachable: the deployment is not ready in time, or the target does not answer.
        DeploymentBroken: the deployment fails its probes.
    """
    from ctcd.deployment.image import require_digest
    from ctcd.deployment.rollback import roll_back_failed

    if image is not None:
        if target is TargetName.PROCESS:
            raise UsageError("the target process runs no image", where="deployment", hint="leave --image out")
        require_digest(image)
    if promote or version is not None:  # the champion may be deployed again
        require_confirmed(settings)
    registry = open_registry(settings)
    info = registry.champion() if version is None else registry.info(version)
    registry.require_pass(info.version)
    # Before the promotion: a version is not marked as rolled back because its image was forgotten.
    artifact = _artifact(settings, info, target, image)
    move = registry.promote(info.version, reason=reason) if promote else None
    try:
        deployment = _put(settings, info, target, artifact, probed=probed, progress=progress)
    except BaseException as error:
        # Also when it is interrupted.
        if move and move.changed:
            roll_back_failed(registry, info.version, f"its deployment failed: {shown(error)}")
        raise
    if image is not None:
        registry.record_image(info.version, image)
    _record(settings, registry, info, deployment, target=target, reason=reason)
    return replace(deployment, promoted=promote, champion_before=move.before if move else None)


def roll_back(
    settings: Settings,
    *,
    to: str | None = None,
    reason: str = "",
    target: TargetName | None = None,
    image_only: bool = False,
    progress: Progress = silent,
) -> "Rollback":
    """Make the previous champion, or the version `to`, the champion again.

    If a target is given, the version is deployed there and probed first: if that fails, nothing is changed. With
    `image_only` the champion stays as it is, as in staging. The reason is recorded.

    Raises:
        NotFound: there is no previous champion, no such version, or no image for it.
        GateRefused: the version was neither champion before nor passed by the gate.
        CtcdError: the deployment fails, as in `deploy`.
    """
    from ctcd.deployment.rollback import Rollback

    registry = open_registry(settings)
    found = registry.rollback_target(to)
    deployment = None
    if target:
        deployment = _put(settings, found, target, _artifact(settings, found, target), progress=progress)
        _record(settings, registry, found, deployment, target=target, reason=reason)
    if image_only:
        return Rollback(champion=registry.champion().version, rolled_back=None, reason=reason, deployment=deployment)
    move = registry.rollback(found.version, reason=reason)
    return Rollback(
        champion=move.version, rolled_back=move.before if move.changed else None, reason=reason, deployment=deployment
    )


def roll_back_failed(
    settings: Settings, version: str, *, reason: str, target: TargetName | None = None, progress: Progress = silent
) -> "Rollback":
    """Take a version that fails where it is served out of service, and deploy the champion before it to the target.

    The champion is changed only if it is that version. If there was none before it, what is deployed of the version is
    stopped; without a target, nothing is deployed or stopped. Running it twice has the same effect as once.
    """
    from ctcd.deployment import client
    from ctcd.deployment.rollback import Rollback, roll_back_failed

    registry = open_registry(settings)
    rolled_back, champion = roll_back_failed(registry, version, reason)
    deployment = None
    if champion is not None and target:
        # Not probed: what made the probes of the failed version fail must not keep the version before it away.
        artifact = _artifact(settings, champion, target)
        deployment = _put(settings, champion, target, artifact, probed=False, progress=progress)
        _record(settings, registry, champion, deployment, target=target, reason=reason)
    elif target and (client.model_info(settings.service_url, settings.client_key) or {}).get("version") == version:
        stop(settings, target=target, reason=reason)
    return Rollback(
        champion=champion.version if champion else None, rolled_back=rolled_back, reason=reason, deployment=deployment
    )


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """What came of stopping a deployment.

    Args:
        stopped: whether anything was deployed.
        unrecorded: why it is not in the history; empty if it is, or if nothing was stopped.
    """

    stopped: bool
    unrecorded: str = ""


def stop(settings: Settings, *, target: TargetName, reason: str = "") -> Stopped:
    """Stop what is deployed; recorded in the history if the deployment is, and done even if the registry is unreachable."""
    if not _target(settings, target, silent).stop():
        return Stopped(stopped=False)
    try:
        open_registry(settings).record_stop(reason=reason, target=_place(settings, target))
    except CtcdError as error:
        return Stopped(stopped=True, unrecorded=str(error))
    return Stopped(stopped=True)


def smoke(settings: Settings, *, version: str | None = None, url: str = "") -> "SmokeReport":
    """Compare the answers of a service with those of a version's model, by default the champion's.

    The service is by default the one that the settings name.

    Raises:
        NotFound: there is no champion yet, or no such version.
        Unreachable: the service does not answer.
    """
    from ctcd.deployment.smoke import smoke

    registry = open_registry(settings)
    info = registry.champion() if version is None else registry.info(version)
    scorer = registry.scorer(info, settings.scorers)
    return smoke(url or settings.service_url, info, scorer, instance(settings).contract, key=settings.client_key)


def smoke_image(settings: Settings, image: str, *, version: str | None = None) -> "SmokeReport":
    """Run an image on this machine for as long as its probes take, and compare its answers; see `smoke`."""
    from ctcd.deployment.local_container import running_image

    # Its predictions are not logged.
    with running_image(settings.model_copy(update={"feature_store_url": SecretStr("")}), image) as url:
        return smoke(settings, version=version, url=url)


def _artifact(
    settings: Settings, info: "RegisteredVersion", target: TargetName, image: str | None = None
) -> tuple[str, str]:
    """Return what a target runs of a version, a Bento's tag or an image, and its digest."""
    from ctcd.deployment.image import digest_of

    if target is TargetName.PROCESS:
        built = build(settings, version=info.version)
        return built.tag, built.digest
    image = image or released_image(settings, version=info.version)
    return image, digest_of(image)


def _put(
    settings: Settings,
    info: "RegisteredVersion",
    target: TargetName,
    artifact: tuple[str, str],
    *,
    probed: bool = True,
    progress: Progress,
) -> Deployment:
    """Deploy an artifact of a version, whether or not the gate has passed the version."""

    def probe(url: str) -> None:
        smoke(settings, version=info.version, url=url).require_passed()

    tag, digest = artifact
    deployer = _target(settings, target, progress)
    return deployer.deploy(tag, version=info.version, digest=digest, probe=probe if probed else unprobed)


def _record(
    settings: Settings,
    registry: "Registry",
    info: "RegisteredVersion",
    deployment: Deployment,
    *,
    target: TargetName,
    reason: str,
) -> None:
    """Record a deployment, also one that found the version in place: the run before it may have been killed."""
    place = _place(settings, target)
    registry.record_deployment(info, before=deployment.before, reason=reason, target=place, artifact=deployment.tag)


def _place(settings: Settings, target: TargetName) -> str:
    """Return the name of a target in the history."""
    return f"{target.value} ({settings.environment.value})"


def _target(settings: Settings, name: TargetName, progress: Progress) -> Target:
    from ctcd.deployment.compose import ComposeTarget
    from ctcd.deployment.kubernetes import KubernetesTarget
    from ctcd.deployment.process import ProcessTarget

    slug = instance(settings).contract.slug
    match name:
        case TargetName.PROCESS:
            return ProcessTarget(settings, progress)
        case TargetName.COMPOSE:
            return ComposeTarget(settings, slug, progress)
        case TargetName.KUBERNETES:
            return KubernetesTarget(settings, slug, progress)
