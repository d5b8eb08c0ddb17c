"""The Bento of a model version: model, code and requirements in one folder that BentoML serves or puts into an image."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import ctcd
from ctcd.contract.instance import Instance
from ctcd.contract.spec import Contract
from ctcd.errors import UsageError
from ctcd.files import replacing_folder
from ctcd.model.scorer import estimator_of
from ctcd.model.served import INFO_FILE, MODEL_FOLDER, ModelInfo, load_scorer
from ctcd.serving.launch import CONTRACTS, bentoml_environment
from ctcd.settings import Settings

SERVICE = "ctcd.serving.service:service"
DISTRIBUTION, EXTRA = "ctcd", "serve"
REQUIREMENTS = "requirements.txt"
_CONTENT = (CONTRACTS, "ctcd", MODEL_FOLDER, REQUIREMENTS)
_IGNORED = "__pycache__"


@dataclass(frozen=True, kw_only=True)
class BentoReport:
    """A Bento that was built.

    Args:
        tag: `name:version`, as `bentoml serve` takes it.
        digest: SHA-256 of model, code and requirements.
        reused: whether it existed with the same content already.
    """

    tag: str
    path: str
    digest: str
    reused: bool


def build(
    info: ModelInfo, scorer_folder: Path, settings: Settings, instance: Instance, *, revision: str = "unknown"
) -> BentoReport:
    """Build the Bento `<contract name>:v<version>` in `settings.bentoml_home`, with the instance in it.

    A Bento with the same content is kept; one with other content is replaced once the new one is complete. A service
    that starts in the instant between may not find it. The git revision of the code becomes one of its labels.

    Raises:
        NotFound: a file of the model is missing.
        Unreachable: a file of the model cannot be read now.
        UsageError: `traffic.toml` is invalid, the model does not fit the contract, or BentoML refuses to build, with the
            last line of its output.
    """
    contract = instance.contract
    # With an invalid one, or a model that does not fit, the service would not start.
    _ = instance.traffic
    load_scorer(scorer_folder, contract)
    name, label = contract.name, f"v{info.version}"
    target = settings.bentoml_home / "bentos" / name / label
    settings.bentoml_home.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="bento-", dir=settings.bentoml_home) as folder:
        context = Path(folder) / "context"
        context.mkdir()
        _fill(context, info, scorer_folder, instance)
        digest = _digest(context)
        reused = _holds(target, digest)
        if not reused:
            labels = {"contract_version": contract.version, "model_version": info.version, "git_revision": revision}
            _describe(context, name, labels)
            # In a home of its own, so that a build that fails or is killed leaves the Bento that is there.
            home = Path(folder) / "home"
            _run_bentoml(context, label, settings, home)
            # Another build may end at the same time. BentoML takes any folder beside the target for a version.
            with replacing_folder(target, settings.bentoml_home / f".{name}-{label}.unfinished") as new:
                (home / "bentos" / name / label).rename(new)
    return BentoReport(tag=f"{name}:{label}", path=str(target), digest=digest, reused=reused)


def newest(contract: Contract, settings: Settings) -> str | None:
    """Return the tag of the Bento of a contract that was built last, or None if there is none."""
    built = (settings.bentoml_home / "bentos" / contract.name).glob("*/bento.yaml")
    found = max(built, key=lambda path: path.stat().st_mtime, default=None)
    return f"{contract.name}:{found.parent.name}" if found else None


def _holds(bento: Path, digest: str) -> bool:
    return (bento / "bento.yaml").exists() and _digest(bento / "src") == digest


def _fill(context: Path, info: ModelInfo, scorer_folder: Path, instance: Instance) -> None:
    # The package as it is installed, from a wheel or a checkout.
    for source, name in ((Path(str(ctcd.__file__)).parent, "ctcd"), (instance.folder, CONTRACTS)):
        shutil.copytree(source, context / name, ignore=shutil.ignore_patterns(_IGNORED))
    shutil.copytree(scorer_folder, context / MODEL_FOLDER, ignore=shutil.ignore_patterns(INFO_FILE))
    info.save(context / MODEL_FOLDER)
    needed = requirements(*estimator_of(scorer_folder).requirements)
    (context / REQUIREMENTS).write_text("\n".join(needed) + "\n", encoding="utf-8")


def _describe(context: Path, name: str, labels: dict[str, str]) -> None:
    bentofile = {
        "service": SERVICE,
        "name": name,
        "labels": labels,
        "include": ["*"],
        # They are pinned to what is installed; locking them again would need a package index.
        "python": {"requirements_txt": REQUIREMENTS, "lock_packages": False},
    }
    # JSON is YAML too.
    (context / "bentofile.yaml").write_text(json.dumps(bentofile, indent=2) + "\n", encoding="utf-8")


def _run_bentoml(context: Path, label: str, settings: Settings, home: Path) -> None:
    # In a process of its own: BentoML keeps its home for the life of a process, and has to import the Bento's code.
    environment = bentoml_environment(settings, context) | {"BENTOML_HOME": str(home)}
    command = [sys.executable, "-m", "bentoml", "build", str(context), "--version", label, "--output", "tag"]
    done = subprocess.run(  # noqa: S603 - our own command
        command, cwd=context, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise UsageError(f"bentoml build failed: {lines[-1] if lines else 'no output'}", where=label)


def requirements(*more: str) -> list[str]:
    """Return what the service and more packages require, pinned to what is installed, but BentoML, which adds itself.

    Raises:
        UsageError: one of these packages is not installed.
    """
    seen: set[tuple[str, frozenset[str]]] = set()
    wanted = [*_closure(DISTRIBUTION, frozenset({EXTRA}), seen)]
    for name in more:
        try:
            wanted += _closure(name, frozenset(), seen)
        except PackageNotFoundError as error:
            raise UsageError(
                f"the package {error.name} is not installed", where=f"requirements of the estimator: {name}"
            ) from error
    pins = {f"{canonicalize_name(name)}=={version(name)}" for name in wanted}
    return sorted(pin for pin in pins if not pin.startswith(("bentoml==", f"{DISTRIBUTION}==")))


def _closure(name: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> Iterator[str]:
    if (name, extras) in seen:
        return
    seen.add((name, extras))
    yield name
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            yield from _closure(requirement.name, frozenset(requirement.extras), seen)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for entry in _CONTENT:
        top = folder / entry
        files = [top] if top.is_file() else sorted(path for path in top.rglob("*") if path.is_file())
        for path in files:
            if _IGNORED not in path.parts:
                digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()
