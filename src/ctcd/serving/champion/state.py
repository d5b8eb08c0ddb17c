"""The state of champion and challenger: small files that one process writes and all workers read."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from ctcd.files import write_text

STATE_FILE = "champion.json"
CHALLENGER_FILE = "challenger.json"
SERVED_FILE = "served.json"
"""File with the same format: the champion that was served last, which a restart falls back to."""


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The result of the last poll of the registry.

    Args:
        version: the champion's version; empty: none is known yet.
        run_id: its training run, which distinguishes it from the same version number in another registry.
        folder: folder of its files, relative to the folder of the state file.
        looked_at: when the registry last answered, ISO 8601; empty: never.
        error: why the last poll failed; empty if it succeeded.
    """

    version: str = ""
    run_id: str = ""
    folder: str = ""
    looked_at: str = ""
    error: str = ""

    def save(self, home: Path, name: str = STATE_FILE) -> None:
        """Write the state file atomically."""
        write_text(home / name, json.dumps(asdict(self)) + "\n")

    @classmethod
    def load(cls, home: Path, name: str = STATE_FILE) -> Self:
        """Return the last state written; an empty one if the file is missing or unreadable."""
        try:
            found = cls(**json.loads((home / name).read_text(encoding="utf-8")))
        except Exception:  # noqa: BLE001 - a damaged file can raise anything, and is written again by the next poll
            return cls()
        return found if all(isinstance(value, str) for value in asdict(found).values()) else cls()


@dataclass(frozen=True, kw_only=True)
class Challenger(Champion):
    """The same for the challenger; without a version there is none.

    Args:
        experiment: the `Experiment` that it takes part in, as JSON.
    """

    experiment: str = ""
