"""What makes a process of tests faster, and is none of their subjects."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree
from unittest.mock import patch

from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from sqlalchemy import Engine, event

from ctcd.promotion import evaluation, gate, plots
from ctcd.promotion.evidence import Evidence

ROWS, WARM_UP = 3, 2
_drawn: dict[str, str] = {}
_downloaded = LocalArtifactRepository.download_artifacts


@contextmanager
def shortcuts() -> Iterator[None]:
    """Let this process time few rows in a gate, draw plots once, copy whole models, and not wait for SQLite's disk."""
    # A process that is killed loses nothing by it, only a machine would.
    event.listen(Engine, "connect", _unsynchronised)
    try:
        with (
            # Three hundred predictions would take half of a gate's time. How latency is measured and judged is tested in
            # tests/unit/promotion; commands in processes of their own time all.
            patch.object(evaluation, "ROWS_TIMED", ROWS),
            patch.object(evaluation, "WARM_UP", WARM_UP),
            # Six plots take as long again. They are tested in tests/unit/promotion; commands in processes of their own
            # draw them.
            patch.object(gate, "draw", _first_plots),
            # MLflow copies the hundreds of files of a local model one by one, which would take a third of a gate's time.
            patch.object(LocalArtifactRepository, "download_artifacts", _copied),
        ):
            yield
    finally:
        event.remove(Engine, "connect", _unsynchronised)


def _unsynchronised(connection: object, _: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


def _first_plots(evidence: Evidence) -> dict[str, str]:
    """Return the plots of the first decision of this process, whatever the evidence."""
    if not _drawn:
        _drawn.update(plots.draw(evidence))
    return _drawn


def _copied(repository: LocalArtifactRepository, artifact_path: str, dst_path: str | None = None) -> str:
    """Copy a folder at once; everything else is MLflow's to copy."""
    source = Path(repository.artifact_dir, artifact_path)
    if dst_path is None or not source.is_dir():
        return str(_downloaded(repository, artifact_path, dst_path))  # type: ignore[no-untyped-call] # MLflow does not annotate it
    return str(copytree(source, Path(dst_path, artifact_path), dirs_exist_ok=True))
