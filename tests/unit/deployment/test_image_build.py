"""No secret gets into an image: neither as an argument of its build nor in its context; one that does is found in it."""

import json
import os
import re
import sys
import tarfile
from importlib.util import module_from_spec, spec_from_file_location
from io import BytesIO
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from support.containers import archive_problems
from support.instance import FOLDER, INSTANCE
from support.marks import API_KEY, CREDENTIALS, SECRETS, in_files, in_texts, unreachable
from support.serving import INFO

from ctcd.errors import NotFound, UsageError
from ctcd.settings import Settings

ROOT = Path(__file__).parents[3]

# Stands for Docker, which not every machine has: notes what it is told. tests/containers searches what it has built.
DOCKER = f"""#!{sys.executable}
import json, os, sys
with open(__file__ + ".told", "a") as calls:
    print(json.dumps(sys.argv[1:]), file=calls)
print({{"image": 1, "run": "{{}}"}}.get(sys.argv[1], ""))
sys.exit(sys.argv[1] == os.environ.get("FAILS"))
"""


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script that builds images, with a build context of its own and a stand-in for Docker."""
    spec = spec_from_file_location("images", ROOT / "scripts" / "images.py")
    assert spec is not None
    assert spec.loader is not None
    images = module_from_spec(spec)
    spec.loader.exec_module(images)
    work, docker = tmp_path / "context", tmp_path / "bin" / "docker"
    for name, folder in {"WORK": work, "BENTO": work / "bento", "CONTRACTS": work / "contracts"}.items():
        monkeypatch.setattr(images, name, folder)
    docker.parent.mkdir()
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(docker.parent), prepend=os.pathsep)
    return images


@pytest.mark.slow
@pytest.mark.parametrize("failing", ["build", "image", "run"])
def test_an_image_that_cannot_be_built_or_looked_at_is_a_failure(
    images: ModuleType, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """Whichever call of Docker fails, none is overlooked."""
    images.main(["ct"])
    monkeypatch.setenv("FAILS", failing)
    with pytest.raises(UsageError, match=f"docker {failing} failed with exit code 1"):
        images.main(["ct"])


@pytest.mark.slow
def test_no_secret_of_the_environment_reaches_a_build(
    images: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is set when they are built; each argument of a build says its value, and is none of a secret's variable."""
    bento, docker = tmp_path / "bento", tmp_path / "bin" / "docker"
    (bento / "src" / "model").mkdir(parents=True)
    (bento / "bento.yaml").touch()
    INFO.save(bento / "src" / "model")
    marked = CREDENTIALS | unreachable()
    for name, value in (marked | {"CTCD_HOME": str(tmp_path / "var"), "CTCD_CONTRACTS": str(FOLDER)}).items():
        monkeypatch.setenv(name, value)
    images.main(bento=bento)
    reported = [json.loads(line) for line in docker.with_name("docker.told").read_text().splitlines()]
    builds = [each for each in reported if each[0] == "build"]
    assert len(builds) == len(images.NAMES)
    given = [each.removeprefix("--build-arg=") for line in builds for each in line if each.startswith("--build-arg")]
    assert all(re.fullmatch("[A-Z_]+=.*", each) for each in given)
    assert not {each.partition("=")[0] for each in given} & set(marked)
    assert in_texts(SECRETS, reported=json.dumps(reported)) == []
    assert in_files(SECRETS, tmp_path) == []


def test_a_model_that_the_gate_has_refused_gets_into_no_image(
    images: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even one of synthetic data, which is trained where no Bento is given."""
    refused = SimpleNamespace(promotion=None, gate=SimpleNamespace(reasons=("it is slow",)))
    monkeypatch.setattr(images.connections, "open_registry", lambda _: SimpleNamespace(find=lambda _: None))
    monkeypatch.setattr(images.synthetic, "write", lambda *_, **__: None)
    monkeypatch.setattr(images.pipeline, "run", lambda *_, **__: refused)
    monkeypatch.setattr(images.deployment, "build", lambda _: pytest.fail("its Bento was built"))
    with pytest.raises(NotFound, match="the gate refused: it is slow"):
        images.synthetic_bento(Settings(), INSTANCE)


def packed(**files: bytes) -> BytesIO:
    """Return an archive of some files."""
    stream = BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
    stream.seek(0)
    return stream


def test_a_secret_is_found_in_a_layer_and_in_the_history() -> None:
    """As `docker save` writes an image: layers, and a document of what made them."""
    sound = {"srv": b"model", "opt": b"packages"}
    history = json.dumps({"history": [{"created_by": "ENV A=1"}]}).encode()
    assert list(archive_problems(packed(layer=packed(**sound).read(), config=history))) == []
    layer = packed(**sound, settings=f"key: {API_KEY}".encode()).read()
    made = history.replace(b"A=1", f"A={API_KEY}".encode())
    found = list(archive_problems(packed(layer=layer, config=made)))
    assert found == ["secret within /settings", "secret in the configuration, config"]
