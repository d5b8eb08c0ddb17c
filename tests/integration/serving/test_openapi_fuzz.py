"""Whatever schemathesis makes of our own OpenAPI document, the running service answers as the document says."""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from support.serving import logged

from credit_score.promotion.bento import BentoReport
from credit_score.serving.launch import running
from credit_score.settings import Settings

pytestmark = pytest.mark.integration

KEY = "fuzz-key-0123456789"
EXAMPLES = 15
"""Generated requests for each operation and phase."""


def fuzz(url: str, document: str, tmp_path: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run schemathesis with every check that it has."""
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        document,
        "--url",
        url,
        "--checks",
        "all",
        "--max-examples",
        str(EXAMPLES),
        "--seed",
        "1",
        "--phases",
        "examples,coverage,fuzzing",
        *options,
        "--header",
        f"X-API-Key: {KEY}",
        "--no-color",
        "--generation-database",
        "none",
    ]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603 - our own command


def test_the_service_keeps_its_own_document(
    built: tuple[BentoReport, Path], settings: Settings, sqlite_url: str, tmp_path: Path
) -> None:
    """No 5xx, no undocumented status, type or header, every answer fits its schema, and no key means no answer."""
    settings = settings.model_copy(update={"feature_store_url": SecretStr(sqlite_url), "api_keys": SecretStr(KEY)})
    with running(built[0].tag, settings) as service:
        done = fuzz(service.url, f"{service.url}/docs.json", tmp_path)
        document = httpx.get(f"{service.url}/docs.json").json()
        # A document that promises too much, which the same run has to notice.
        del document["paths"]["/predict"]["post"]["responses"]["422"]
        (tmp_path / "wrong.json").write_text(json.dumps(document))
        wrong = fuzz(service.url, "wrong.json", tmp_path, "--include-path", "/predict", "--max-failures", "1")
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
    assert len(logged(sqlite_url)) > EXAMPLES / 2
    assert wrong.returncode == 1
    assert "422" in wrong.stdout
