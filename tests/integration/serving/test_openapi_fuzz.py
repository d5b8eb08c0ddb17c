"""Whatever schemathesis generates from our own OpenAPI document, the running service answers as the document says."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from support.load import Guarded, wait
from support.serving import logged_ids

pytestmark = pytest.mark.integration

EXAMPLES = 15
"""Generated requests for each operation and phase."""


def fuzz(guarded: Guarded, document: str, tmp_path: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run schemathesis with all of its checks."""
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        document,
        "--url",
        guarded.service.url,
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
        f"X-API-Key: {guarded.key}",
        "--no-color",
        "--generation-database",
        "none",
    ]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603 - our own command


def test_the_service_conforms_to_its_own_document(guarded: Guarded, tmp_path: Path) -> None:
    """No 5xx, no undocumented status, type or header, every answer fits its schema, and no key means no answer."""
    url, before = guarded.service.url, len(logged_ids(guarded.store))
    document = httpx.get(f"{url}/docs.json").json()
    # A document that lacks a status of the service, which schemathesis must notice.
    del document["paths"]["/predict"]["post"]["responses"]["422"]
    (tmp_path / "wrong.json").write_text(json.dumps(document))
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(fuzz, guarded, f"{url}/docs.json", tmp_path),
            pool.submit(fuzz, guarded, "wrong.json", tmp_path, "--include-path", "/predict", "--max-failures", "1"),
        ]
        done, wrong = (run.result() for run in runs)
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
    wait(lambda: len(logged_ids(guarded.store)) - before > EXAMPLES / 2)
    assert wrong.returncode == 1
    assert "422" in wrong.stdout
