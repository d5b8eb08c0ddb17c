"""The manifests as kubectl renders them are valid, hardened, and name the image by digest. No cluster is needed."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.manifests import broken_rules

from ctcd.deployment.kubernetes import render
from ctcd.errors import UsageError
from ctcd.settings import Environment, Settings

pytestmark = pytest.mark.containers

FOLDER = Path(__file__).parents[2] / "deploy"
SLUG = "machine-condition"
IMAGE = f"registry.example/ctcd/api@sha256:{'a' * 64}"
STORE = "mysql+pymysql://trainer:a-real-one-4711@db.internal:3306/mlops"


def settings(environment: Environment, folder: Path = FOLDER) -> Settings:
    return Settings(environment=environment, deploy_folder=folder, feature_store_url=STORE)


def manifests(environment: Environment) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(render(settings(environment), SLUG, IMAGE, "7")))


@pytest.mark.parametrize("environment", list(Environment))
def test_the_manifests_of_every_environment_are_valid_and_safe(environment: Environment) -> None:
    """Schema, security, probes, limits and selectors are in order, and name, image and version are those given."""
    rendered = manifests(environment)
    assert broken_rules(rendered) == []
    deployment = next(each for each in rendered if each["kind"] == "Deployment")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE
    assert deployment["metadata"]["labels"]["ctcd/model-version"] == "v7"
    assert {each["metadata"]["name"] for each in rendered} == {f"{SLUG}-api"}
    assert "set-by-the-deployment" not in str(rendered)


@pytest.mark.parametrize("environment", [Environment.STAGING, Environment.PRODUCTION])
def test_each_environment_has_a_namespace_and_its_setting(environment: Environment) -> None:
    """Each environment has a namespace named after the instance, and its service knows which environment it is in."""
    rendered = manifests(environment)
    assert {each["metadata"]["namespace"] for each in rendered} == {f"{SLUG}-{environment.value}"}
    deployment = next(each for each in rendered if each["kind"] == "Deployment")
    variables = {each["name"]: each["value"] for each in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert variables["CTCD_ENVIRONMENT"] == environment.value


def test_a_folder_without_manifests_is_named(tmp_path: Path) -> None:
    """The error names the folder and the setting for it."""
    with pytest.raises(UsageError, match="CTCD_DEPLOY_FOLDER"):
        render(settings(Environment.LOCAL, tmp_path), SLUG, IMAGE, "7")


def test_manifests_without_a_placeholder_for_the_image_are_refused(tmp_path: Path) -> None:
    """A missing placeholder would deploy another image than the given one."""
    base = tmp_path / "kubernetes" / "base"
    base.mkdir(parents=True)
    (base / "kustomization.yaml").write_text("resources: [service.yaml]\n")
    (base / "service.yaml").write_text((FOLDER / "kubernetes" / "base" / "service.yaml").read_text())
    with pytest.raises(UsageError, match="no manifest has"):
        render(settings(Environment.LOCAL, tmp_path), SLUG, IMAGE, "7")
