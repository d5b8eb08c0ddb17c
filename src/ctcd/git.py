"""What git says about a checkout."""

import subprocess
from pathlib import Path

from ctcd.errors import UsageError
from ctcd.settings import Settings


def git(folder: Path, *arguments: str) -> str | None:
    """Return what a command of git prints in a folder; None if the command fails.

    Raises:
        UsageError: git is not installed, or does not answer.
    """
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)  # noqa: S603 - the user's own git
    except (OSError, subprocess.SubprocessError) as error:
        raise UsageError("is not installed, or does not answer", where="git") from error
    return None if done.returncode else done.stdout.strip()


def git_revision(settings: Settings) -> str:
    """Return the revision of the source: `settings.revision` if set, as in images, else that of the git checkout.

    A checkout with uncommitted changes in the engine or the instance is marked "-dirty". "unknown" if git cannot say.
    """
    if settings.revision:
        return settings.revision
    root = Path(__file__).resolve().parents[2]
    # A package installed inside an unrelated checkout does not belong to it.
    if not (root / ".git").exists():
        return "unknown"
    tracked = [path for path in (root / "src", settings.contracts.resolve()) if path.is_relative_to(root)]
    try:
        revision = git(root, "rev-parse", "HEAD")
        dirty = git(root, "status", "--porcelain", "--untracked-files=no", "--", *map(str, tracked))
    except UsageError:
        return "unknown"
    if revision is None or dirty is None:
        return "unknown"
    return f"{revision}-dirty" if dirty else revision
