"""Builds the images and says how large they are: what `make images` calls.

The api image holds a Bento. Without one it is given a model of synthetic data, trained in `build/images`, so that a fresh
clone has an image that answers.
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

from contracts.features import CONTRACT
from ctcd.cli.output import err, out, shown_progress, table
from ctcd.derived import synthetic
from ctcd.errors import CtcdError, NotFound, UsageError
from ctcd.model.served import MODEL_FOLDER, ModelInfo
from ctcd.registry import tracking
from ctcd.registry.versions import CHAMPION
from ctcd.settings import Settings, load_settings
from ctcd.stages import connections, deployment, pipeline

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "images"
BENTO = WORK / "bento"
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


def image(name: str, tag: str) -> str:
    """Return the full name of an image."""
    return f"ctcd-{name}:{tag}"


def synthetic_bento(settings: Settings) -> Path:
    """Return the Bento of a model of synthetic data; it is trained if there is none for this contract."""
    home = settings.model_copy(
        update={"home": WORK / "home", "feature_store_url": SecretStr(""), "mlflow_tracking_uri": SecretStr("")}
    )
    champion = connections.open_registry(home).find(CHAMPION)
    if champion is None or champion.tags.get("contract_version") != CONTRACT.version:
        out.print("no Bento given (BENTO=folder): training a model of synthetic data for the api image")
        raw = home.home / "raw"
        synthetic.write(CONTRACT, raw, rows=ROWS, seed=home.seed, end=home.today())
        with shown_progress() as progress:
            report = pipeline.run(home, raw, profile="fast", progress=progress)
        if report.promotion is None:
            raise NotFound(f"the gate refused: {'; '.join(report.gate.reasons)}", where="model of synthetic data")
    return Path(deployment.build(home).path)


def put_bento(source: Path) -> ModelInfo:
    """Copy a Bento into the build context and return which model it holds."""
    if not (source / "bento.yaml").exists():
        raise NotFound("no Bento", where=str(source), hint="give BENTO the path that `ctcd build` prints")
    shutil.rmtree(BENTO, ignore_errors=True)
    shutil.copytree(source, BENTO)
    return ModelInfo.load(BENTO / "src" / MODEL_FOLDER)


def docker(*arguments: str, capture: bool = False) -> str:
    """Run Docker's client; return what it printed if that is wanted.

    Raises:
        UsageError: it failed.
    """
    done = subprocess.run(  # noqa: S603 - our own arguments
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


def build_image(name: str, tag: str, labels: dict[str, str]) -> None:
    """Build one image."""
    base = os.environ.get("BASE_IMAGE")
    given = {**labels, **({"BASE": base} if base else {})}
    arguments = [f"--build-arg={key}={value}" for key, value in given.items()]
    docker(
        "build", "--quiet", "--file=docker/Dockerfile", f"--target={name}", f"--tag={image(name, tag)}", *arguments, "."
    )


def report(name: str, tag: str) -> tuple[str, ...]:
    """Return name and size of an image, and what in it is large."""
    size = int(docker("image", "inspect", "--format={{.Size}}", image(name, tag), capture=True))
    command = (
        "run",
        "--rm",
        "--network=none",
        "--entrypoint=/opt/packages/bin/python",
        image(name, tag),
        "-c",
        _PACKAGES,
    )
    sizes: dict[str, int] = json.loads(docker(*command, capture=True))
    largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:LARGEST]
    told = ", ".join(f"{package} {sizes[package] / 1e6:.0f}" for package in largest)
    return image(name, tag), f"{size / 1e6:,.0f}", f"{sum(sizes.values()) / 1e6:,.0f}", told


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Which ones.", show_default="all")] = None,
    bento: Annotated[Path | None, typer.Option(help="Folder of the Bento that the api image is to hold.")] = None,
    tag: Annotated[str, typer.Option(help="Tag of the images.")] = "local",
) -> None:
    """Build images and print their sizes."""
    chosen = names or list(NAMES)
    settings = load_settings()
    try:
        labels = {
            "VERSION": version("ctcd"),
            "REVISION": tracking.git_revision(settings),
            "CONTRACT_VERSION": CONTRACT.version,
        }
        for name in chosen:
            if name not in NAMES:
                raise UsageError(f"there is no image {name!r}", where="images", hint=f"one of {', '.join(NAMES)}")
            more = {}
            if name == "api":
                info = put_bento(bento or synthetic_bento(settings))
                more = {"MODEL_VERSION": info.version, "MODEL_RUN": info.run_id}
            out.print(f"building {image(name, tag)}")
            build_image(name, tag, labels | more)
        rows = [report(name, tag) for name in chosen]
    except CtcdError as error:
        err.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from error
    table("Images (MB)", ("image", "size", "its packages", "the largest"), rows)


if __name__ == "__main__":
    typer.run(main)
