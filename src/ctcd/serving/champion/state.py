"""What a service knows about the registry's champion: one small file that one process writes and all workers read."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from ctcd.files import write_text

STATE_FILE = "champion.json"


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The result of the last look at the registry.

    Args:
        version: the champion's version; empty: none is known yet.
        run_id: its training run, which tells it from a version of the same number in another registry.
        folder: where its files are, below the folder of this file.
        looked_at: when the registry last answered, ISO 8601; empty: never.
        error: why the last look failed; empty if it did not.
    """

    version: str = ""
    run_id: str = ""
    folder: str = ""
    looked_at: str = ""
    error: str = ""

    def save(self, home: Path) -> None:
        """Write it, in one step."""
        write_text(home / STATE_FILE, json.dumps(asdict(self)) + "\n")

    @classmethod
    def load(cls, home: Path) -> Self:
        """Return what was written last; nothing is known if there is no such file, or another."""
        try:
            return cls(**json.loads((home / STATE_FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return cls()
