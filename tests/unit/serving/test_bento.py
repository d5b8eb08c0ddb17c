"""What goes into a Bento."""

import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from support.instance import INSTANCE
from support.serving import INFO

from ctcd.deployment import bento
from ctcd.errors import UsageError
from ctcd.model.served import MODEL_FOLDER, ModelInfo
from ctcd.settings import Settings


@pytest.mark.slow
def test_requirements_are_pinned_to_what_is_installed() -> None:
    """Everything that serving needs, with any estimator of the engine, and nothing that only training needs."""
    pins = dict(line.split("==") for line in bento.requirements())
    for name in ("catboost", "pydantic", "scikit-learn", "skops", "sqlalchemy", "pymysql", "starlette", "uvicorn"):
        assert pins[name] == version(name)
    assert not {"mlflow", "pytest", "ctcd"} & set(pins)


@pytest.mark.slow
def test_what_an_estimator_requires_is_pinned_too() -> None:
    """A package that it names comes with what that package requires; one that is not installed is named."""
    more = set(bento.requirements("hypothesis")) - set(bento.requirements())
    assert {line.partition("==")[0] for line in more} == {"hypothesis", "sortedcontainers"}
    with pytest.raises(UsageError, match="the package no-such-package is not installed"):
        bento.requirements("no-such-package")


@pytest.mark.slow
def test_a_context_holds_packages_model_and_requirements(model_folder: Path, tmp_path: Path) -> None:
    """The packages come whole, without compiled scraps, and the model says which version it is."""
    bento._fill(tmp_path, INFO, model_folder, INSTANCE)
    assert {path.name for path in tmp_path.iterdir()} == {"contracts", "ctcd", MODEL_FOLDER, bento.REQUIREMENTS}
    assert (tmp_path / "ctcd" / "serving" / "service.py").exists()
    assert ModelInfo.load(tmp_path / MODEL_FOLDER) == INFO
    assert not list(tmp_path.rglob("__pycache__"))


def test_an_instance_that_no_service_starts_with_is_not_built(model_folder: Path, tmp_path: Path) -> None:
    """An invalid file of traffic is refused before anything is written, so the Bento that is there stays."""
    folder = tmp_path / "invalid"
    folder.mkdir()
    (folder / "traffic.toml").write_text("[limits]\nmax_errors = 0.9\n")
    settings = Settings(home=tmp_path / "home")
    with pytest.raises(UsageError, match="max_errors"):
        bento.build(INFO, model_folder, settings, replace(INSTANCE, folder=folder))
    assert not settings.home.exists()


def test_a_model_that_does_not_fit_the_contract_is_not_built(model_folder: Path, tmp_path: Path) -> None:
    """As when the contract has changed since it was trained: nothing is written, so the Bento that is there stays."""
    settings = Settings(home=tmp_path / "home")
    newer = replace(INSTANCE, contract=replace(INSTANCE.contract, version="9.0.0"))
    with pytest.raises(UsageError, match=r"the model's contract is .* instead of .*9\.0\.0") as refused:
        bento.build(INFO, model_folder, settings, newer)
    assert "start the service with the contract of the model" in refused.value.hint
    assert not settings.home.exists()


@pytest.mark.slow
def test_the_digest_is_that_of_the_content(model_folder: Path, tmp_path: Path) -> None:
    """It changes with model, code and version, and not with what BentoML and Python add."""
    bento._fill(tmp_path, INFO, model_folder, INSTANCE)
    before = bento._digest(tmp_path)
    (tmp_path / "bentofile.yaml").write_text("{}")
    scraps = tmp_path / "ctcd" / "__pycache__"
    scraps.mkdir()
    (scraps / "x.pyc").write_text("x")
    assert bento._digest(tmp_path) == before
    for name in ("ctcd/errors.py", "contracts/features.py", f"{MODEL_FOLDER}/version.json", bento.REQUIREMENTS):
        path = tmp_path / name
        text = path.read_text()
        path.write_text(text + "\n")
        assert bento._digest(tmp_path) != before
        path.write_text(text)
    assert bento._digest(tmp_path) == before


def holding(target: Path, context: Path) -> None:
    """Write a Bento with the content of a context, as BentoML does."""
    shutil.copytree(context, target / "src", dirs_exist_ok=True)
    (target / "bento.yaml").touch()


@pytest.mark.slow
@pytest.mark.parametrize("same", [True, False])
def test_a_build_that_another_one_overtook_is_done(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    """If the version was built in the meantime, with whatever content, that Bento is replaced."""
    name, settings = INSTANCE.contract.name, Settings(home=tmp_path)

    # In place of BentoML: when a real second build ends is a matter of luck.
    def overtaken(context: Path, label: str, _settings: Settings, home: Path) -> None:
        for each in (home, settings.bentoml_home):
            holding(each / "bentos" / name / label, context)
        if not same:
            (settings.bentoml_home / "bentos" / name / label / "src" / bento.REQUIREMENTS).write_text("other\n")

    monkeypatch.setattr(bento, "_run_bentoml", overtaken)
    for reused in (False, True):
        assert bento.build(INFO, model_folder, settings, INSTANCE, revision="").reused is reused
    assert [each.name for each in settings.bentoml_home.iterdir()] == ["bentos"]


@pytest.mark.slow
def test_a_build_that_fails_leaves_the_bento_that_is_there(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever BentoML has written by then, the service that starts next has a Bento; the error names the version."""
    settings = Settings(home=tmp_path)
    target = settings.bentoml_home / "bentos" / INSTANCE.contract.name / f"v{INFO.version}"
    target.mkdir(parents=True)
    (target / "bento.yaml").write_text("the good one")
    monkeypatch.setenv("BENTOML_CONFIG", "/nowhere")  # with which BentoML fails
    with pytest.raises(UsageError, match=rf"^v{INFO.version}: bentoml build failed: .*BENTOML_CONFIG"):
        bento.build(INFO, model_folder, settings, INSTANCE)
    assert [each.name for each in settings.bentoml_home.iterdir()] == ["bentos"]
    assert (target / "bento.yaml").read_text() == "the good one"
