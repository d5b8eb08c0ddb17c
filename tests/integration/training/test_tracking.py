import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import mlflow
import pytest
import requests
from mlflow.telemetry import get_telemetry_client
from pydantic import SecretStr
from sqlalchemy import Engine, event
from support.instance import CONTRACT

from ctcd.errors import NotFound, Unreachable, UsageError
from ctcd.files import locked
from ctcd.git import git_revision
from ctcd.registry import tracking
from ctcd.settings import Settings
from ctcd.training.runs import TrainingRuns

pytestmark = pytest.mark.integration


def at(uri: str) -> Settings:
    return Settings.model_validate({"mlflow_tracking_uri": uri})


def test_embedded_store_keeps_everything_in_its_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Experiment, runs and artifacts land in the configured folder; the working directory stays empty."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    settings = Settings(home=tmp_path / "home")
    client = tracking.connect(settings)
    experiment = tracking.experiment_id(client, CONTRACT, settings)
    run = client.create_run(experiment)
    client.log_text(run.info.run_id, "text", "file.txt")
    assert len(list(settings.artifacts.rglob("file.txt"))) == 1
    assert list((tmp_path / "cwd").iterdir()) == []


def test_a_store_in_memory_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written to the working directory, neither a file of that name nor its lock."""
    monkeypatch.chdir(tmp_path)
    tracking._probe_database("sqlite:///:memory:")
    assert list(tmp_path.iterdir()) == []


def test_connecting_twice_gives_the_same_experiment(tmp_path: Path) -> None:
    """A second connection finds the experiment of the first, also after it was deleted."""
    settings = Settings(home=tmp_path)
    first = tracking.experiment_id(tracking.connect(settings), CONTRACT, settings)
    client = tracking.connect(settings)
    assert tracking.experiment_id(client, CONTRACT, settings) == first
    client.delete_experiment(first)
    assert tracking.experiment_id(client, CONTRACT, settings) == first
    assert client.get_experiment(first).lifecycle_stage == "active"


def test_a_moved_home_is_not_written_to_at_its_old_place(tmp_path: Path) -> None:
    """The error says where the artifacts were and how to link them; with that link, the old ones are read again."""
    before = Settings(home=tmp_path / "a home" / "before")
    client = tracking.connect(before)
    run = client.create_run(tracking.experiment_id(client, CONTRACT, before))
    client.log_text(run.info.run_id, "text", "file.txt")
    after = Settings(home=tmp_path / "after")
    before.home.rename(after.home)
    with pytest.raises(NotFound, match="was CTCD_HOME moved") as refused:
        tracking.experiment_id(tracking.connect(after), CONTRACT, after)
    assert not before.home.exists()
    command = refused.value.hint.partition(": ")[2]
    subprocess.run(["/bin/sh", "-c", command], check=True)  # noqa: S603 -- the hint's own command
    client = tracking.connect(after)
    assert tracking.experiment_id(client, CONTRACT, after) == run.info.experiment_id
    assert Path(client.download_artifacts(run.info.run_id, "file.txt")).read_text() == "text"


def test_mlflow_is_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Connecting prints nothing and sends no telemetry."""
    tracking.connect(Settings(home=tmp_path))
    assert "".join(capfd.readouterr()) == ""
    assert get_telemetry_client() is None
    assert mlflow.get_tracking_uri() == mlflow.get_registry_uri() == Settings(home=tmp_path).tracking_uri


def test_environment_variables_of_mlflow_take_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's environment variables are not overwritten."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    tracking.connect(Settings(home=tmp_path))
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"


def test_connecting_does_not_change_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings read after connecting are those read before, with and without a URI in the environment."""
    for uri in ("", f"sqlite:///{tmp_path / 'other.db'}"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        before = Settings(home=tmp_path)
        tracking.connect(Settings(home=tmp_path / "elsewhere", mlflow_tracking_uri=SecretStr("")))
        assert Settings(home=tmp_path) == before


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("http://someone:hunter22@127.0.0.1:9", "http://127.0.0.1:9: MLflow cannot be reached: ConnectionError"),
        (
            "mysql+pymysql://someone:hunter22@127.0.0.1:9/mlflow",
            "mysql+pymysql://127.0.0.1:9/mlflow: MLflow's database does not answer: OperationalError",
        ),
    ],
)
def test_a_dead_server_is_detected_within_seconds(uri: str, said: str) -> None:
    """A server that does not answer gives a one-line error within seconds that names it, without user and password."""
    start = time.perf_counter()
    with pytest.raises(Unreachable) as caught:
        tracking.connect(at(uri))
    message = str(caught.value)
    assert time.perf_counter() - start < 20
    assert said in message
    assert "\n" not in message
    assert "hunter22" not in message
    assert "someone" not in message


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """A SQLite URI of a file that is not a database gives a one-line error that names the file."""
    path = tmp_path / "notes.db"
    path.write_text("no database, " * 100)
    with pytest.raises(Unreachable, match=r"notes\.db"):
        tracking.connect(at(f"sqlite:///{path}"))


@pytest.mark.parametrize("existing", [True, False])
def test_a_full_disk_on_which_mlflow_creates_its_tables_is_no_bug(tmp_path: Path, existing: bool) -> None:
    """It gives a one-line error with what SQLite says, and nothing is left that would be taken for a whole store."""

    def small(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA max_page_count = 20")

    if existing:
        (tmp_path / "mlflow.db").touch()
    event.listen(Engine, "connect", small)
    try:
        with pytest.raises(
            Unreachable, match=r"mlflow\.db: MLflow's database does not answer: database or disk is full"
        ):
            tracking.connect(Settings(home=tmp_path))
    finally:
        event.remove(Engine, "connect", small)
    assert [file.stat().st_size for file in tmp_path.glob("mlflow.db*")] == [0] * existing
    assert list(tmp_path.glob(".mlflow.db.*-*")) == []


def test_a_full_disk_to_which_mlflow_writes_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A one-line error says what SQLite says, and not to look for a server; MLflow prints no traceback beside it."""
    settings = Settings(home=tmp_path)
    client = tracking.connect(settings)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("VACUUM")  # no page is free

    def full(connection: sqlite3.Connection, _record: object, _proxy: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # SQLite takes the number of those that there are

    said = r"mlflow\.db: MLflow's database does not answer: database or disk is full \(check the file and its disk\)"
    event.listen(Engine, "checkout", full)
    try:
        with pytest.raises(Unreachable, match=said), tracking.mlflow_errors(settings.tracking_uri):
            client.set_experiment_tag("0", "tag", "x" * 20_000)
    finally:
        event.remove(Engine, "checkout", full)
    assert "".join(capfd.readouterr()) == ""


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A home inside a file gives a one-line error with its path."""
    (tmp_path / "file").write_text("")
    with pytest.raises(Unreachable, match=r"file/home/mlflow\.db: cannot create the folder"):
        tracking.connect(Settings(home=tmp_path / "file" / "home"))


@pytest.mark.parametrize(
    "ask",
    [
        lambda runs: runs.report("run"),
        lambda runs: runs.reference("run"),
        lambda runs: runs.evidence("run", "holdout.parquet"),
    ],
)
def test_evidence_that_is_refused_is_not_missing(
    ask: Callable[[TrainingRuns], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the server that keeps artifacts is an OSError, as that of a missing file is, and decides nothing."""

    def refuse(**_: object) -> NoReturn:
        raise requests.HTTPError("403")

    monkeypatch.setattr("ctcd.training.runs.download_artifacts", refuse)
    settings = Settings(home=tmp_path)
    with pytest.raises(Unreachable, match="MLflow does not answer as it should"):
        ask(TrainingRuns(tracking.connect(settings), CONTRACT, settings))


@pytest.mark.parametrize(
    "uri",
    [
        *("foo://bar", "postgresql+nodriver://h/d", "mysql+pymysql://h:port/d", "mysql+pymysql://h/d?nothing=1"),
        "mysql+pymysql://u:p@hunter22@h/d",
    ],
)
def test_an_unusable_uri_is_refused(uri: str) -> None:
    """A URI that is not supported, or has an option that its driver does not know, is refused with the name of the setting."""
    with pytest.raises(UsageError, match="MLFLOW_TRACKING_URI") as refused:
        tracking.connect(at(uri))
    assert "hunter22" not in str(refused.value)


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=n@example.org", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603 (ours)


def test_revision_is_that_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The revision is the checkout's commit, marked if source or instance have changed; a configured one takes precedence."""
    source = tmp_path / "src" / "package" / "git.py"
    source.parent.mkdir(parents=True)
    source.write_text("x = 1\n")
    rule = tmp_path / "instance" / "rule.toml"
    rule.parent.mkdir()
    rule.write_text("")
    monkeypatch.setattr("ctcd.git.__file__", str(source))
    assert git_revision(Settings()) == "unknown"
    git(tmp_path, "init", "-q")
    assert git_revision(Settings()) == "unknown"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "m")
    revision = git(tmp_path, "rev-parse", "HEAD")
    assert git_revision(Settings()) == revision
    (tmp_path / "notes.txt").write_text("not source")
    assert git_revision(Settings()) == revision
    source.write_text("x = 2\n")
    assert git_revision(Settings()) == f"{revision}-dirty"
    git(tmp_path, "checkout", "-q", "src")
    rule.write_text("changed = true\n")
    assert git_revision(Settings()) == revision
    assert git_revision(Settings(contracts=rule.parent)) == f"{revision}-dirty"
    assert git_revision(Settings(revision="v1")) == "v1"


def test_a_process_killed_while_creating_the_store_can_be_run_again(tmp_path: Path) -> None:
    """The embedded store appears under its name once it is complete; what the killed process left is removed."""
    script = (
        "from ctcd.settings import Settings; from ctcd.registry.tracking import connect; "
        f"connect(Settings(home={str(tmp_path)!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path)  # noqa: S603 - our own script
    while not list(tmp_path.glob(".mlflow.db.*-*")):
        assert process.poll() is None, "it was through before it could be killed"
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not (tmp_path / "mlflow.db").exists()
    assert tracking.connect(Settings(home=tmp_path)).search_experiments()
    assert {file.name for file in tmp_path.iterdir()} == {"mlflow.db", ".mlflow.db.lock"}


@pytest.mark.parametrize("name", ["mlflow.db", "link.db"])
def test_who_creates_the_store_at_the_same_time_waits_and_keeps_it(tmp_path: Path, name: str) -> None:
    """The second of two processes that saw that there was none leaves the first one's store as it is.

    That a link leads the second one to it makes no difference.
    """
    store = tmp_path / "mlflow.db"
    (tmp_path / "link.db").symlink_to(store)
    with ThreadPoolExecutor(1) as pool:
        with locked(tmp_path / ".mlflow.db.lock"):
            second = pool.submit(tracking._create_whole, tmp_path / name)
            with pytest.raises(TimeoutError):
                second.result(1)
            store.write_text("of the first")
        second.result()
    assert store.read_text() == "of the first"


def test_the_store_is_created_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on FAT and many network file systems; mounting one needs rights that a test does not have."""

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    assert tracking.connect(Settings(home=tmp_path)).search_experiments()
