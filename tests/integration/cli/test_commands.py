"""The commands as their user runs them: real processes, a real store, a real registry."""

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import select
from sqlalchemy.engine import URL
from support.command import Command
from support.instance import CONTRACT
from support.mariadb import database
from support.warm_commands import Program

from ctcd.contract.spec import names
from ctcd.derived import synthetic
from ctcd.registry.tracking import connect as connect_tracking
from ctcd.registry.versions import Registry
from ctcd.settings import Settings
from ctcd.store.engine import connect
from ctcd.store.tables import build_tables

pytestmark = pytest.mark.integration

DAY = date(2025, 8, 31)
STAGES: dict[str, tuple[str, ...]] = {
    "ingest": ("ingest", "{raw}"),
    "snapshot": ("snapshot", "--base-dt", DAY.isoformat(), "--months", "8"),
    "validate": ("validate",),
    "train": ("train", "--profile", "smoke"),
    "gate": ("gate", "--today", DAY.isoformat()),
    "promote": ("promote",),
    "build": ("build",),
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    synthetic.write(CONTRACT, folder, rows=5_000, seed=7, end=DAY, error_rate=0.01)
    return folder


def arguments(stage: str, raw: Path) -> list[str]:
    return [part.format(raw=raw) for part in STAGES[stage]]


def store_state(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table, in the order of the keys, without the time at which a file was first read."""
    engine = connect(url)
    try:
        with engine.connect() as connection:
            return {
                table.name: [
                    tuple(map(str, row))
                    for row in connection.execute(
                        select(*(each for each in table.columns if each.name != "ingested_at")).order_by(
                            *table.primary_key
                        )
                    )
                ]
                for table in build_tables(CONTRACT).metadata.sorted_tables
            }
    finally:
        engine.dispose()


def registry_state(home: Path) -> dict[str, Any]:
    registry = Registry(connect_tracking(Settings(home=home)), CONTRACT)
    found = {alias: registry.find(alias) for alias in ("champion", "previous")}
    return {alias: info.version if info else None for alias, info in found.items()}


@pytest.fixture(scope="module")
def url(mariadb: URL) -> Iterator[str]:
    with database(mariadb) as created:
        yield created.render_as_string(hide_password=False)


@dataclass(frozen=True)
class Loop:
    """The stages, run one after the other on MariaDB, each twice: as its user does, and then without its imports.

    Args:
        command: the command without its imports.
        seconds: how long the second run of each stage took.
        once: store, registry and report after the first run of each stage.
        again: the same after the second.
    """

    command: Command
    seconds: dict[str, float]
    once: dict[str, tuple[Any, ...]]
    again: dict[str, tuple[Any, ...]]


@pytest.fixture(scope="module")
def loop(url: str, raw: Path, warm_program: Program, tmp_path_factory: pytest.TempPathFactory) -> Loop:
    command = Command(tmp_path_factory.mktemp("home"), url)
    warm = replace(command, program=warm_program())
    refused = warm.run("ingest", str(raw))
    assert refused.returncode == 5
    assert "ctcd migrate" in refused.stderr
    for each in (command, warm):
        assert each.run("migrate").returncode == 0
    ran = Loop(warm, {}, {}, {})
    for stage in STAGES:
        for runs, states in ((command, ran.once), (warm, ran.again)):
            began = time.monotonic()
            report = runs.report(*arguments(stage, raw))
            ran.seconds[stage] = time.monotonic() - began
            states[stage] = (store_state(url), registry_state(command.home), report)
    return ran


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_run_twice_leaves_the_same_state(loop: Loop, stage: str) -> None:
    """On a MariaDB server each command, run twice, leaves the same rows and aliases and prints the same report."""
    *once, first = loop.once[stage]
    *again, second = loop.again[stage]
    assert again == once
    if stage != "gate":  # it measures latency again, and then finds the champion
        volatile = {"seconds", "deleted", "reused", "changed", "before"}
        assert {k: v for k, v in second.items() if k not in volatile} == {
            k: v for k, v in first.items() if k not in volatile
        }


def test_the_loop_ends_with_a_champion_that_scores_the_store(loop: Loop) -> None:
    """After the last stage the first version is the champion and scores every row of the feature table."""
    assert registry_state(loop.command.home) == {"champion": "1", "previous": None}
    scored = loop.command.report("predict", CONTRACT.features_table, "--out", "scores.parquet")
    assert scored["rows"] == len(store_state(loop.command.store_url)[CONTRACT.features_table])
    assert not set(pd.read_parquet(loop.command.home / "scores.parquet")) & set(names(CONTRACT.personal))


def test_the_report_site_has_the_decisions_with_their_evidence(loop: Loop) -> None:
    """The page of each decision is in the site as it was recorded, and a link leads to it; the snapshot's report likewise."""
    report = loop.command.report("report")
    site = Path(report["folder"])
    decisions = sorted((loop.command.home / "reports" / "decisions").glob("1-*/*.html"))
    assert decisions
    for page in decisions:
        assert (site / "decisions" / "1" / page.name).read_text() == page.read_text()
        assert f'href="decisions/1/{page.name}"' in (site / "decisions.html").read_text()
    assert "version 1 is the champion" in (site / "index.html").read_text()
    assert f"snapshot of {DAY}: accepted" in (site / "index.html").read_text()
    assert sorted(str(path.relative_to(site)) for path in site.rglob("*.html")) == sorted(report["pages"])


def test_no_personal_value_leaves_the_ingest(loop: Loop, raw: Path) -> None:
    """Personal values are in the table of personal data and in no other table, file or artifact."""
    given = pd.read_csv(raw / f"{CONTRACT.features_table}.csv.gz", dtype=str)
    personal = {value for column in CONTRACT.personal for value in given[column.name].dropna()}
    personal -= {column.example for column in CONTRACT.personal}  # the contract's examples are published
    assert personal
    state = store_state(loop.command.store_url)
    kept = {value for row in state.pop(CONTRACT.personal_table) for value in row}
    assert kept & personal
    for table, rows in state.items():
        assert not {value for row in rows for value in row} & personal, table
    samples = sorted(personal)[:20]
    for path in loop.command.home.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [value for value in samples if value.encode() in content], path


def test_a_stage_that_was_killed_can_be_run_again(raw: Path, tmp_path: Path, loop: Loop) -> None:
    """Each stage, killed twice and run again, leaves the same state as one that was not killed."""
    killed = replace(loop.command, home=tmp_path / "home", store_url="")
    for stage in STAGES:
        for share in (0.5, 0.9):
            process = killed.start(*arguments(stage, raw))
            time.sleep(loop.seconds[stage] * share)  # varies the moment of the kill
            process.send_signal(signal.SIGKILL)
            process.communicate()  # until nothing holds its output any longer
        killed.report(*arguments(stage, raw))
    state = store_state(Settings(home=killed.home).store_url)
    assert state == store_state(loop.command.store_url)
    assert registry_state(killed.home) == {"champion": "1", "previous": None}


def test_a_refused_model_is_registered_as_refused_and_never_promoted(
    raw: Path, tmp_path: Path, warm_program: Program
) -> None:
    """A model below the floors ends the gate with exit code 4, is registered with the reasons, and promote refuses it."""
    weak = Command(tmp_path / "home", program=warm_program())
    labels = raw / f"{CONTRACT.labels_table}.csv.gz"
    noise = tmp_path / "noise"
    noise.mkdir()
    (noise / f"{CONTRACT.features_table}.csv.gz").write_bytes((raw / f"{CONTRACT.features_table}.csv.gz").read_bytes())
    shuffled = pd.read_csv(labels, dtype=str)
    shuffled[CONTRACT.label.name] = shuffled[CONTRACT.label.name].sample(frac=1, random_state=1).to_numpy()
    shuffled.to_csv(noise / labels.name, index=False)
    for stage in ("ingest", "snapshot", "train"):
        weak.report(*arguments(stage, noise))
    gate = weak.run(*arguments("gate", noise))
    assert gate.returncode == 4
    assert "macro F1" in gate.stderr
    promote = weak.run("promote", "--version", "1")
    assert promote.returncode == 4
    assert registry_state(weak.home) == {"champion": None, "previous": None}
    version = Registry(connect_tracking(Settings(home=weak.home)), CONTRACT).info("1")
    assert version.tags["gate"] == "refused"
    assert "macro F1" in version.tags["gate_reasons"]
    assert list((weak.home / "reports" / "decisions").glob("1-*/1.*"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql+pymysql://user:hunter2@127.0.0.1:1/mlops", "127.0.0.1"),
        ("sqlite:////proc/store.db", "/proc/store.db"),
    ],
)
def test_an_unreachable_store_is_one_line_with_exit_code_6(raw: Path, tmp_path: Path, url: str, message: str) -> None:
    """A store that does not answer is named without its password, in one line, with exit code 6."""
    done = Command(tmp_path, url).run("ingest", str(raw))
    assert done.returncode == 6
    assert message in done.stderr
    assert "hunter2" not in done.stderr
    assert done.stderr.strip().count("\n") == 0
