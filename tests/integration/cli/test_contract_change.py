"""Changing the contract is one edit and one command."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support.command import COMMAND
from support.instance import INSTANCE
from support.marks import CREDENTIALS, SECRETS, in_files, in_texts
from support.warm_commands import Program

pytestmark = pytest.mark.integration

BEFORE = "    humidity: Series[float] = column("
NEW_COLUMN = """    years_in_service: Series[float] = column(
        meaning="years since the machine was installed",
        unit="years",
        minimum=0,
        maximum=100,
        nullable=True,
        example=4.0,
        simulate=Simulate(quantiles=(0, 2, 5, 11, 60), signal=0.2, missing=0.3),
    )
"""


class Project:
    """A copy of the instance, changed and used in place of the original."""

    def __init__(self, folder: Path, program: tuple[str, ...]) -> None:
        self.folder = folder
        self.program = program
        shutil.copytree(INSTANCE.folder, folder / "contracts", ignore=shutil.ignore_patterns("__pycache__"))

    def edit(self, *edits: tuple[str, str]) -> None:
        path = self.folder / "contracts" / "features.py"
        text = path.read_text()
        for old, new in edits:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        path.write_text(text)

    def run(self, *arguments: str, program: tuple[str, ...] | None = None) -> "subprocess.CompletedProcess[str]":
        environment = {
            **os.environ,
            "PYTHONDONTWRITEBYTECODE": "1",
            "CTCD_CONTRACTS": "contracts",
            "CTCD_HOME": str(self.folder / "var"),
            "FEATURE_STORE_URL": "",
            "MLFLOW_TRACKING_URI": "",
            **CREDENTIALS,
        }
        return subprocess.run(  # noqa: S603 - our own command
            [*(program or self.program), *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def git(self, *arguments: str) -> None:
        identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
        subprocess.run(["git", *identity, *arguments], cwd=self.folder, check=True, capture_output=True)  # noqa: S603, S607 - git on the PATH


@pytest.fixture
def project(tmp_path: Path, warm_program: Program) -> Project:
    made = Project(tmp_path, warm_program())
    made.git("init", "--quiet")
    made.git("add", "contracts")
    made.git("commit", "--quiet", "-m", "before")
    return made


def test_a_new_column_is_one_edit_and_one_command(project: Project) -> None:
    """A column added to the contract is locked, migrated, generated, ingested, trained on and asked for by the API."""
    assert project.run("contract", "lock", "--check").returncode == 0
    project.edit((BEFORE, NEW_COLUMN + BEFORE), ('version="1.0.0"', 'version="1.1.0"'))
    stale = project.run("contract", "lock", "--check")
    assert stale.returncode == 4
    assert "openapi.json" in stale.stderr
    assert "migration" in stale.stderr
    locked = project.run("contract", "lock")
    assert locked.returncode == 0, locked.stderr
    assert project.run("contract", "lock", "--check").returncode == 0
    compared = project.run("contract", "diff", "HEAD")
    assert compared.returncode == 0
    assert "years_in_service" in compared.stdout
    demo = project.run("demo", "--rows", "4000", "--profile", "smoke", program=(str(COMMAND),))
    assert demo.returncode == 0, demo.stderr
    assert "years_in_service" in demo.stdout
    assert "accepted after" in demo.stdout  # the data monitor
    assert in_texts(SECRETS, out=demo.stdout, err=demo.stderr) == []
    assert in_files(SECRETS, project.folder / "var") == []


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("maximum=20_000", "maximum=19_000"), "major step"),
        (('"High", "Fair", "Low"', '"High", "Low"'), "major step"),
        (("maximum=20_000", "maximum=21_000"), "minor step"),
        (('meaning="time in operation"', 'meaning="hours in operation"'), "patch step"),
    ],
)
def test_a_change_without_its_version_step_is_refused(project: Project, edit: tuple[str, str], message: str) -> None:
    """`contract diff` ends in exit code 4 and names the step where the version does not say what the change does."""
    project.edit(edit)
    refused = project.run("contract", "diff", "HEAD")
    assert refused.returncode == 4
    assert message in refused.stderr
