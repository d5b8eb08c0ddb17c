"""Deploys an image to a Kubernetes cluster: manifests rendered by kustomize, applied by kubectl.

A rolling update sends requests to a new pod as soon as it is ready, before it is probed from outside; if the probes
then fail, the rollout is undone.
"""

from collections.abc import Sequence
from contextlib import suppress

from ctcd.deployment.commands import run_command
from ctcd.deployment.image import require_digest
from ctcd.deployment.target import Deployment, Probe, unprobed
from ctcd.errors import CtcdError, Unreachable, UsageError
from ctcd.progress import Progress, silent
from ctcd.settings import PREFIX, Environment, Settings

FILES = "kubernetes"
IMAGE, VERSION, SLUG = "image-set-by-the-deployment", "version-set-by-the-deployment", "slug-set-by-the-deployment"
"""Placeholders in the manifests for the image, the version of the model, and the name of the instance."""
_COMMAND_SECONDS = 120.0
_UNREACHABLE = ("Unable to connect to the server", "was refused", "no configuration has been provided")


def render(settings: Settings, slug: str, image: str, version: str) -> str:
    """Return the manifests of a version's image for the settings' environment; see `Contract.slug`.

    Raises:
        UsageError: a tag names the image, there are no manifests for the environment, or kubectl is not installed.
    """
    require_digest(image)
    overlay = settings.environment if settings.environment in (Environment.STAGING, Environment.PRODUCTION) else None
    folder = settings.deploy_folder / FILES / (f"overlays/{overlay.value}" if overlay else "base")
    if not (folder / "kustomization.yaml").is_file():
        raise UsageError("there are no manifests", where=str(folder), hint=f"set {PREFIX}DEPLOY_FOLDER")
    text = _run(["kustomize", str(folder)])
    for placeholder, value in ((VERSION, f"v{version}"), (IMAGE, image), (SLUG, slug)):
        if placeholder not in text:
            raise UsageError(f"no manifest has {placeholder!r}", where=str(folder))
        text = text.replace(placeholder, value)
    return text


class KubernetesTarget:
    """The cluster and the namespace of kubectl's current context; see `deploy/kubernetes`."""

    def __init__(self, settings: Settings, slug: str, progress: Progress = silent) -> None:
        self._settings, self._slug, self._progress = settings, slug, progress
        self._workload = f"deployment/{slug}-api"

    def deploy(self, tag: str, *, version: str, digest: str, probe: Probe = unprobed) -> Deployment:
        """Roll an image out; if its pods are not ready in time or it fails its probes, undo the rollout.

        Raises:
            UsageError: a tag names the image, or kubectl refuses the manifests.
            Unreachable: the cluster does not answer, or the pods are not ready in time.
            DeploymentBroken: it fails its probes.
        """
        image = require_digest(tag)
        manifests = render(self._settings, self._slug, image, version)
        before, before_version = self.deployed(), self._field("{.metadata.labels.ctcd/model-version}")
        _run(["apply", "--filename=-"], manifests)
        try:
            self._wait()
            probe(self._settings.service_url)
        except BaseException:
            # Also when it is interrupted.
            with suppress(CtcdError):
                self._undo(before, image)
            raise
        return Deployment(
            url=self._settings.service_url,
            tag=image,
            version=version,
            digest=digest,
            before=before_version.removeprefix("v") or None,
            changed=before != image,
        )

    def deployed(self) -> str | None:
        """Return the deployed image, or None if there is none."""
        return self._field("{.spec.template.spec.containers[0].image}") or None

    def stop(self) -> bool:
        """Remove the pods; return whether there were any. Service, policies and volumes stay."""
        return bool(_run(["delete", self._workload, "--ignore-not-found", "--wait"]))

    def _field(self, path: str) -> str:
        return _run(["get", self._workload, "--ignore-not-found", f"--output=jsonpath={path}"])

    def _wait(self) -> None:
        self._progress("roll out", 0, 1)
        seconds = int(self._settings.start_seconds) * 3
        try:
            _run(["rollout", "status", self._workload, f"--timeout={seconds}s"], seconds=seconds + 10)
        except UsageError as error:
            raise Unreachable(f"its pods are not ready: {error.what}", where=self._workload) from error
        self._progress("roll out", 1, 1)

    def _undo(self, before: str | None, image: str) -> None:
        if before == image:
            return
        if before is None:
            self.stop()
            return
        _run(["rollout", "undo", self._workload])
        self._wait()


def _run(arguments: Sequence[str], stdin: str | None = None, *, seconds: float = _COMMAND_SECONDS) -> str:
    done = run_command(["kubectl", *arguments], seconds=seconds, server="cluster", stdin=stdin)
    if done.returncode:
        message = " ".join(done.stderr.split()) or "no error output"
        kind = Unreachable if any(sign in message for sign in _UNREACHABLE) else UsageError
        raise kind(f"kubectl {arguments[0]}: {message}", where="cluster")
    return done.stdout.strip()
