"""A folder of predictions, which appears and is replaced as a whole, and says what it was made from."""

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ctcd.errors import UsageError
from ctcd.files import claim, write_text, writing_to
from ctcd.scoring.files import BatchReport, rejected_file

REPORT_FILE = "_SUCCESS"
"""Makes a folder complete, for readers of such folders, too."""


@dataclass(frozen=True)
class OutputFolder:
    """The folder, and beside it the one in which its successor is made.

    Args:
        out: path that was asked for.
        identity: of the rows, the model and the contract, in hexadecimal digits; empty if they are always scored anew.
    """

    out: Path
    identity: str

    @cached_property
    def path(self) -> Path:
        """The absolute path."""
        return self.out.resolve()

    @property
    def staged(self) -> Path:
        """The folder that takes its place once it is complete; a run that was killed is continued in it."""
        return self.path.with_name(f".{self.path.name}.{self.identity[:16] or 'table'}")

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep other runs from writing the same folder, and put back what a killed one took away.

        Raises:
            UsageError: another run is writing it, or it cannot be written.
        """
        with writing_to(self.out):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = claim(self.path.with_name(f".{self.path.name}.lock"))
            if lock is None:
                hint = "wait for it, or choose another folder"
                raise UsageError("another run is writing it", where=str(self.path), hint=hint)
            try:
                for each in self._unfinished():
                    if each.suffix == ".old" and not self.path.exists():  # killed between the renames of `finish`
                        each.rename(self.path)
                yield
            finally:
                os.close(lock)

    def finished(self) -> BatchReport | None:
        """Return the report of the same predictions, if they are there with all parts and the file of rejected rows.

        Raises:
            UsageError: there is something else in that place.
        """
        kept = self._kept()
        if not kept or not self.identity or kept["identity"] != self.identity:
            return None
        report = BatchReport(**kept["report"])
        rejected = report.rejected == 0 or rejected_file(self.path).is_file()
        complete = "parts" in kept and all((self.path / name).is_file() for name in kept["parts"])
        return report if rejected and complete else None

    def begin(self) -> None:
        """Make the staged folder, and delete those that killed runs over other rows left."""
        for old in self._unfinished():
            if old != self.staged or not self.identity:
                shutil.rmtree(old)
        self.staged.mkdir(exist_ok=True)

    def finish(self, report: BatchReport, parts: Sequence[Path]) -> None:
        """Let the staged folder take the place of the one that is there; of the parts, those that exist have to stay."""
        kept = {
            "identity": self.identity,
            "parts": [part.name for part in parts if part.is_file()],
            "report": asdict(report),
        }
        write_text(self.staged / REPORT_FILE, json.dumps(kept) + "\n")
        old = self.staged.with_name(f"{self.staged.name}.old")
        if self.path.exists():
            self.path.rename(old)
        self.staged.rename(self.path)
        shutil.rmtree(old, ignore_errors=True)

    def _unfinished(self) -> list[Path]:
        """Return the folders that killed runs left beside this one."""
        name = re.compile(rf"\.{re.escape(self.path.name)}\.([0-9a-f]{{16}}|table)(\.old)?")
        return [each for each in self.path.parent.iterdir() if each.is_dir() and name.fullmatch(each.name)]

    def _kept(self) -> dict[str, Any] | None:
        """Return what the folder says of itself; None if there is none, or nothing in it."""
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return None
        try:
            kept: dict[str, Any] = json.loads((self.path / REPORT_FILE).read_text(encoding="utf-8"))
            kept["identity"], kept["report"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UsageError(
                "is not a folder of predictions", where=str(self.path), hint="give a new folder, or delete it"
            ) from error
        return kept
