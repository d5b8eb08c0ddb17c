"""Stages of a deployment: build, deploy, probe, and back again."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import SecretStr

from ctcd.errors import NotFound, UsageError
from ctcd.progress import Progress, silent
from ctcd.settings import Settings
from ctcd.stages.connections import instance, open_registry

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ctcd.deployment.bento import BentoReport
    from ctcd.deployment.plan import Plan
    from ctcd.deployment.release import Shipped, Unshipped
    from ctcd.deployment.revert import Reverted
    from ctcd.deployment.smoke import SmokeReport
    from ctcd.deployment.target import Deployment, Probe, Target

IMAGE_TARGETS = ("compose", "kubernetes")
"""Deployment targets that take an image."""


def build(settings: Settings, *, version: str | None = None) -> "BentoReport":
    """Build the Bento of a version, by default the champion, or find it built already.

    Raises:
        NotFound: there is no champion yet, or no such version.
    """
    from ctcd.deployment import bento
    from ctcd.registry.tracking import git_revision

    registry = open_registry(settings)
    found = registry.champion() if version is None else registry.info(version)
    scorer = registry.scorer_folder(found, settings.scorers)
    return bento.build(found.model_info(), scorer, settings, instance(settings), revision=git_revision(settings))


def service_url(settings: Settings) -> str:
    """Return where the service answers."""
    return settings.service_url


def check_deployment(settings: Settings) -> "Plan":
    """Compare what answers with the champion."""
    from ctcd.deployment import client
    from ctcd.deployment.plan import plan
    from ctcd.registry.versions import CHAMPION

    registry = open_registry(settings)
    champion = registry.find(CHAMPION)
    return plan(client.model_info(settings.service_url, settings.client_key), champion, settings.service_url)


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
    from ctcd.deployment.target import unprobed
    from ctcd.registry.versions import CHAMPION

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
    from ctcd.deployment.image import digest_of
    from ctcd.deployment.target import unprobed
    from ctcd.registry.versions import CHAMPION

    if target not in IMAGE_TARGETS:
        raise UsageError(f"{target} takes no image", where="deployment", hint=f"one of {', '.join(IMAGE_TARGETS)}")
    registry = open_registry(settings)
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


def smoke(settings: Settings) -> "SmokeReport":
    """Probe the deployment through its API: does it answer as the champion does?"""
    from ctcd.registry.versions import CHAMPION

    return smoke_version(settings, CHAMPION, settings.service_url)


def smoke_version(settings: Settings, version: str, url: str) -> "SmokeReport":
    """Probe what answers at a URL: does it answer as a version does?"""
    from ctcd.deployment.smoke import smoke
    from ctcd.registry.versions import CHAMPION

    contract = instance(settings).contract
    registry = open_registry(settings)
    info = registry.champion() if version == CHAMPION else registry.info(version)
    return smoke(url, info, registry.scorer(info, settings.scorers), contract, key=settings.client_key)


def revert(settings: Settings, *, version: str, reason: str, target: str, progress: Progress = silent) -> "Reverted":
    """Roll back a version that does not work where it is served, and deploy the one before it.

    Where there is none before it, it is not left deployed. Run again, it comes to the same end.
    """
    from ctcd.deployment import client
    from ctcd.deployment.revert import Reverted, roll_back

    registry = open_registry(settings)
    rolled_back, champion = roll_back(registry, version, reason)
    if champion is not None:
        deploy(settings, target=target, progress=progress)
    elif (client.model_info(settings.service_url, settings.client_key) or {}).get("version") == version:
        stop_deployment(settings, target=target)
    return Reverted(rolled_back=rolled_back, champion=champion.version if champion else None, reason=reason)


def stop_deployment(settings: Settings, *, target: str) -> bool:
    """End what is deployed; return whether anything was."""
    return _target(settings, target, silent).stop()


def tried(settings: Settings, image: str, *, network: str = "bridge") -> "AbstractContextManager[str]":
    """Return a context that runs an image on this machine's Docker and gives its URL."""
    from ctcd.deployment.try_image import on_trial

    return on_trial(settings, image, network=network)


def try_image(settings: Settings, version: str, image: str) -> "SmokeReport":
    """Run an image for as long as its probes take: does it answer as a version does?"""
    # What is tried leaves no trace in the store.
    with tried(settings.model_copy(update={"feature_store_url": SecretStr("")}), image) as url:
        report = smoke_version(settings, version, url)
    report.require_passed()
    return report


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
        CtcdError: as `deploy` does.
    """
    from ctcd.deployment.image import require_digest
    from ctcd.deployment.release import Shipped
    from ctcd.deployment.revert import roll_back

    registry = open_registry(settings)
    require_digest(image)
    registry.require_pass(version)
    registry.record_image(version, image)
    move = registry.promote(version) if promoted else None
    try:
        deployment = deploy_version(settings, version, target=target, image=image, progress=progress)
    except BaseException as error:
        # Also when it is interrupted.
        if move and move.changed:
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
        CtcdError: as `deploy` does.
    """
    from ctcd.deployment.release import Unshipped

    registry = open_registry(settings)
    found = registry.rollback_target(to)
    deployment = deploy_version(settings, found.version, target=target, progress=progress)
    rolled_back = None
    if demoted:
        rolled_back = registry.rollback(found.version, reason=reason).before
    return Unshipped(deployment=deployment, rolled_back=rolled_back, reason=reason)


def render_manifests(settings: Settings, *, image: str, version: str) -> str:
    """Return the Kubernetes manifests of an image."""
    from ctcd.deployment.kubernetes import render

    return render(settings, instance(settings).contract.slug, image, version)


def _probe(settings: Settings, version: str) -> "Probe":
    def probe(url: str) -> None:
        smoke_version(settings, version, url).require_passed()

    return probe


def _target(settings: Settings, name: str, progress: Progress) -> "Target":
    from ctcd.deployment.compose import ComposeTarget
    from ctcd.deployment.kubernetes import KubernetesTarget
    from ctcd.deployment.process import ProcessTarget

    targets: dict[str, Callable[[Settings, str, Progress], Target]] = {
        "process": ProcessTarget,
        "compose": ComposeTarget,
        "kubernetes": KubernetesTarget,
    }
    if name not in targets:
        raise UsageError(f"there is no target {name!r}", where="deployment", hint=f"one of {', '.join(targets)}")
    return targets[name](settings, instance(settings).contract.slug, progress)
