"""The compositions of `examples/patterns` as real processes, with small models."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import psutil
from support.instance import CONTRACT
from support.load import wait
from support.serving import INFO, save_model, small_scorer

import ctcd
from ctcd.model.scorer import Scorer
from ctcd.serving.launch import KEEP_ALIVE_SECONDS
from ctcd.settings import Settings
from examples.patterns.informed import informed

ROOT = Path(__file__).parents[2]
COMPOSITIONS = {"split": "Split", "chain": "Chain", "ensemble": "Ensemble"}
"""Module and service of each composition."""
OTHER = replace(INFO, version="9")
"""The version that the second model of a composition is."""


@dataclass(frozen=True)
class Composition:
    """A running composition.

    Args:
        process: the supervisor of its services.
    """

    client: httpx.Client
    process: psutil.Process

    def worker(self, service: str) -> psutil.Process:
        """Return the process of one of its services."""
        (found,) = (each for each in self.process.children(recursive=True) if _serves(each, service))
        return found


def _serves(process: psutil.Process, service: str) -> bool:
    command = process.cmdline()
    return "--service-name" in command and command[command.index("--service-name") + 1] == service


def models(folder: Path) -> dict[str, tuple[Path, Scorer, Scorer]]:
    """Write the models of each composition below a folder; return its folder, and the first and the second model."""
    first, more = small_scorer(), small_scorer(iterations=30)
    second = small_scorer(contract=informed(CONTRACT))
    split = save_model(first, folder / "split")
    chain = save_model(first, folder / "chain")
    save_model(second, chain / "second", OTHER, informed(CONTRACT))
    ensemble = save_model(first, folder / "ensemble")
    save_model(more, ensemble / "second", OTHER)
    return {"split": (split, first, first), "chain": (chain, first, second), "ensemble": (ensemble, first, more)}


@contextmanager
def composed(name: str, settings: Settings, log: Path) -> Iterator[Composition]:
    """Run a composition until the block ends; its output goes to `log`."""
    command = [sys.executable, "-m", "bentoml", "serve", f"examples.patterns.{name}:{COMPOSITIONS[name]}"]
    command += ["--host", settings.host, "--port", str(settings.port), "--timeout-keep-alive", str(KEEP_ALIVE_SECONDS)]
    environment = settings.child_environment() | {
        "BENTOML_HOME": str(settings.home / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "PYTHONPATH": os.pathsep.join(str(folder) for folder in (Path(ctcd.__file__).parents[1], ROOT)),
    }
    with log.open("wb") as output:
        process = psutil.Popen(command, cwd=settings.home, env=environment, stdout=output, stderr=subprocess.STDOUT)
    family: list[psutil.Process] = []
    try:
        with httpx.Client(base_url=settings.service_url, timeout=30) as client:
            wait(lambda: _ready(client, process, log))
            yield Composition(client, process)
    finally:
        family = process.children(recursive=True)
        process.terminate()
        process.wait(30)
        for each in psutil.wait_procs(family, timeout=10)[1]:
            each.kill()


def _ready(client: httpx.Client, process: psutil.Popen, log: Path) -> bool:
    assert process.poll() is None, f"the composition has ended:\n{log.read_text()[-2000:]}"
    try:
        return client.get("/readyz").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
