"""An image is probed in a hardened container before it is pushed."""

from pathlib import Path

import pytest
from support.containers import API, OWN, docker
from support.images import model_in

from ctcd.deployment.local_container import running_image
from ctcd.deployment.smoke import smoke
from ctcd.errors import DeploymentBroken, UsageError
from ctcd.model.served import ModelInfo
from ctcd.registry.versions import RegisteredVersion
from ctcd.settings import Settings

pytestmark = pytest.mark.containers


def champion(info: ModelInfo, **other: str) -> RegisteredVersion:
    """Return the registry's entry for the model in an image."""
    known = {"version": info.version, "run_id": info.run_id} | other
    return RegisteredVersion(
        model_name=info.model_name, aliases=(), created_at=info.creation_time, tags={}, uri=info.model_uri, **known
    )


def test_the_image_answers_as_its_model_does(tmp_path: Path) -> None:
    """The probes pass, fail for another version, and leave no container."""
    info, scorer = model_in(API, tmp_path)
    with running_image(Settings(home=tmp_path, start_seconds=180), API) as url:
        assert smoke(url, champion(info), scorer, OWN.contract).problems == ()
        with pytest.raises(DeploymentBroken, match="instead of 4711"):
            smoke(url, champion(info, version="4711"), scorer, OWN.contract).require_passed()
        running = docker("ps", "--quiet", "--filter", f"publish={url.rpartition(':')[2]}").stdout.split()
        assert len(running) == 1
    assert docker("ps", "--all", "--quiet", "--filter", f"id={running[0]}").stdout == ""


def test_an_image_that_does_not_start_is_refused(tmp_path: Path) -> None:
    """The error shows the output of the container."""
    (tmp_path / "Dockerfile").write_text(f'FROM {API}\nENTRYPOINT ["/bin/sh", "-c", "echo planted; exit 3"]\n')
    image = docker("build", "--quiet", str(tmp_path)).stdout.strip()
    with pytest.raises(UsageError, match="planted"), running_image(Settings(home=tmp_path), image):
        pass
    docker("image", "rm", image)
