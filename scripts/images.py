"""Builds the images of the instance and prints their sizes; `make images` calls it.

The api image holds a Bento. If none is given, it gets that of a model trained on synthetic data in `build/images`, so that
a fresh clone can build an image that answers.
"""

import json
import os
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from ctcd.cli.output import explained, out, shown_progress, table
from ctcd.contract.instance import Instance
from ctcd.derived import synthetic
from ctcd.errors import NotFound, UsageError
from ctcd.git import git_revision
from ctcd.model.served import MODEL_FOLDER, ModelInfo
from ctcd.registry.versions import CHAMPION
from ctcd.settings import Settings, load_settings
from ctcd.stages import connections, deployment, pipeline

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "images"
BENTO, CONTRACTS = WORK / "bento", WORK / "contracts"
"""Parts of the build context: the Bento of the api image, and the instance of the other images."""
NAMES = ("api", "ct", "airflow")
ROWS = 20_000
LARGEST = 6
_PACKAGES = """
import json, os, pathlib, sysconfig
folder = pathlib.Path(sysconfig.get_paths()["purelib"])
print(json.dumps({
    entry.name: sum(file.stat().st_size for file in ([entry] if entry.is_file() else entry.rglob("*")) if file.is_file())
    for entry in folder.iterdir()
}))
"""


def synthetic_bento(settings: Settings, instance: Instance) -> Path:
    """Return the Bento of a model of synthetic data, trained if there is none for the version of the contract."""
    contract = instance.contract
    home = settings.model_copy(
        update={"home": WORK / contract.slug, "feature_store_url": SecretStr(""), "mlflow_tracking_uri": SecretStr("")}
    )
    champion = connections.open_registry(home).find(CHAMPION)
    if champion is None or champion.tags.get("contract_version") != contract.version:
        out.print("no Bento given (BENTO=folder): training a model on synthetic data for the api image")
        raw = home.home / "raw"
        synthetic.write(contract, raw, rows=ROWS, seed=home.seed, end=home.today())
        with shown_progress() as progress:
            report = pipeline.run(home, raw, profile="fast", progress=progress)
        if report.promotion is None:
            raise NotFound(f"the gate refused: {'; '.join(report.gate.reasons)}", where="model of synthetic data")
    return Path(deployment.build(home).path)


def stage(source: Path, target: Path) -> None:
    """Copy a folder into the build context, in place of what is there."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


def stage_bento(source: Path) -> ModelInfo:
    """Copy a Bento into the build context and return which model it holds."""
    if not (source / "bento.yaml").exists():
        raise NotFound("no Bento", where=str(source), hint="set BENTO to the path that `ctcd build` prints")
    stage(source, BENTO)
    return ModelInfo.load(BENTO / "src" / MODEL_FOLDER)


def docker(*arguments: str, capture: bool = False) -> str:
    """Run Docker's client and return its output if `capture` is set.

    Raises:
        UsageError: the command failed.
    """
    done = subprocess.run(  # noqa: S603 - no argument comes from outside
        ["docker", *arguments],  # noqa: S607 - whichever client the user has
        cwd=ROOT,
        env=os.environ | {"DOCKER_BUILDKIT": "1"},
        stdout=subprocess.PIPE if capture else None,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UsageError(f"docker {arguments[0]} failed with exit code {done.returncode}", where="docker")
    return done.stdout or ""


def build_image(image: str, target: str, labels: dict[str, str]) -> None:
    """Build one target of the Dockerfile."""
    base = os.environ.get("BASE_IMAGE")
    given = {**labels, **({"BASE": base} if base else {})}
    arguments = [f"--build-arg={key}={value}" for key, value in given.items()]
    docker("build", "--quiet", "--file=docker/Dockerfile", f"--target={target}", f"--tag={image}", *arguments, ".")


def report(image: str) -> tuple[str, ...]:
    """Return the name of an image, its size and that of its packages in MB, and its largest packages."""
    size = int(docker("image", "inspect", "--format={{.Size}}", image, capture=True))
    command = (
        "run",
        "--rm",
        "--network=none",
        "--entrypoint=/opt/packages/bin/python",
        image,
        "-c",
        _PACKAGES,
    )
    sizes: dict[str, int] = json.loads(docker(*command, capture=True))
    largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:LARGEST]
    shown = ", ".join(f"{package} {sizes[package] / 1e6:.0f}" for package in largest)
    return image, f"{size / 1e6:,.0f}", f"{sum(sizes.values()) / 1e6:,.0f}", shown


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Images to build.", show_default="all")] = None,
    bento: Annotated[Path | None, typer.Option(help="Folder of the Bento for the api image.")] = None,
    tag: Annotated[str, typer.Option(help="Tag of the images.")] = "local",
) -> None:
    """Build images and print their sizes."""
    chosen = names or list(NAMES)
    settings = load_settings()
    instance = connections.instance(settings)
    images = {name: f"{instance.contract.slug}-{name}:{tag}" for name in chosen}
    labels = {
        "VERSION": version("ctcd"),
        "REVISION": git_revision(settings),
        "CONTRACT_VERSION": instance.contract.version,
    }
    stage(instance.folder, CONTRACTS)
    for name, image in images.items():
        if name not in NAMES:
            raise UsageError(f"there is no image {name!r}", where="images", hint=f"one of {', '.join(NAMES)}")
        more = {}
        if name == "api":
            info = stage_bento(bento or synthetic_bento(settings, instance))
            more = {"MODEL_VERSION": info.version, "MODEL_RUN": info.run_id}
        out.print(f"building {image}")
        build_image(image, name, labels | more)
    rows = [report(image) for image in images.values()]
    table("Images (MB)", ("image", "size", "packages", "largest packages"), rows)


if __name__ == "__main__":
    with explained():
        typer.run(main)
