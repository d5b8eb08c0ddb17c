"""The scan for secrets finds a real one and ignores the made-up ones of tests."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KEY = "AKIA" + "Q3EGRXJ5T7WZ2LKB"
BLOCK = "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n"


def scanned(path: Path) -> int:
    done = subprocess.run(  # noqa: S603 - our own script
        [ROOT / "scripts" / "check-secrets.sh", path], capture_output=True, text=True, check=False
    )
    return done.returncode


@pytest.mark.slow
@pytest.mark.parametrize("text", [f'key = "{KEY}"\n', BLOCK, 'database_password = "xK9-hunter-2024"\n'])
def test_a_secret_is_refused(tmp_path: Path, text: str) -> None:
    """A cloud key, a private key and a password in code are found."""
    path = tmp_path / "settings.py"
    path.write_text(text)
    assert scanned(path) == 1


@pytest.mark.slow
def test_a_file_without_one_passes(tmp_path: Path) -> None:
    """Ordinary code raises no alarm."""
    path = tmp_path / "settings.py"
    path.write_text("port = 3000\n")
    assert scanned(path) == 0
