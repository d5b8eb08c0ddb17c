"""Images for tests: the api image with small models, by digest, and the image for training with the tests' instance."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

from support.containers import API, CT, OWN, docker, started
from support.instance import FOLDER
from support.serving import model_info, save_model

from ctcd.model.scorer import Scorer
from ctcd.model.served import ModelInfo

REGISTRY = "registry:2"
MODEL = "/srv/bento/src/model"
"""Folder of the model in the api image."""
CT_CONTRACTS = "/opt/contracts"
"""Folder of the instance in the image for training."""


@contextmanager
def registry() -> Iterator[str]:
    """Run a registry on loopback and yield its address; images pulled from it are removed afterwards."""
    with started(REGISTRY, options=["--publish=127.0.0.1::5000"], hardened=False) as container:
        port = container.port(5000)
        deadline = time.monotonic() + 30
        while not _answers(port):
            assert time.monotonic() < deadline, container.logs()
            time.sleep(0.1)
        address = f"127.0.0.1:{port}"
        yield address
        found = docker("images", "--quiet", f"{address}/*/*").stdout.split()
        if found:
            docker("image", "rm", "--force", *sorted(set(found)))


def _answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def pushed(address: str, name: str, lines: str, context: Path) -> str:
    """Build an image on top of the api image, push it and return its reference by digest."""
    tag = f"{address}/ctcd/{name}"
    (context / "Dockerfile").write_text(f"FROM {API}\n{lines}\n", encoding="utf-8")
    docker("build", "--quiet", "--tag", tag, str(context))
    docker("push", "--quiet", tag)
    reference = docker("image", "inspect", "--format={{index .RepoDigests 0}}", tag).stdout.strip()
    docker("image", "rm", tag)
    return reference


def with_model(address: str, scorer: Scorer, version: str, folder: Path) -> tuple[str, ModelInfo]:
    """Push the api image with another model of its instance; return its reference, and the model's version."""
    info = replace(model_info(OWN.contract), version=version, run_id=f"{int(version):032x}")
    save_model(scorer, folder / "model", info, OWN.contract)
    lines = f"USER 0\nRUN rm -r {MODEL}\nCOPY model {MODEL}\nUSER 10001"
    return pushed(address, f"api-{version}", lines, folder), info


@contextmanager
def training_image(folder: Path) -> Iterator[str]:
    """Build the image for training with the tests' instance in place of its own, and yield its name."""
    name = "ctcd-test-ct:local"
    shutil.copytree(FOLDER, folder / "instance", ignore=shutil.ignore_patterns("__pycache__"))
    lines = f"FROM {CT}\nUSER 0\nRUN rm -r {CT_CONTRACTS}\nCOPY instance {CT_CONTRACTS}\nUSER 10001\n"
    (folder / "Dockerfile").write_text(lines, encoding="utf-8")
    docker("build", "--quiet", "--tag", name, str(folder))
    try:
        yield name
    finally:
        docker("image", "rm", "--force", name)


def model_in(image: str, folder: Path) -> tuple[ModelInfo, Scorer]:
    """Copy the model out of an image; return its version and its scorer."""
    container = docker("create", image).stdout.strip()
    try:
        docker("cp", f"{container}:{MODEL}", str(folder / "copied"))
    finally:
        docker("rm", "--volumes", container)
    return ModelInfo.load(folder / "copied"), Scorer.load(folder / "copied")
