"""The shipping process ends in time, whatever the store does."""

import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr
from support.instance import CONTRACT
from support.serving import EXAMPLE, origin

from ctcd.serving.prediction_log import records
from ctcd.serving.prediction_log.outbox import Outbox
from ctcd.settings import Settings

pytestmark = pytest.mark.integration


def test_a_store_that_hangs_does_not_prevent_the_process_from_ending(tmp_path: Path) -> None:
    """Once its worker is gone and the time to drain is over, it ends, and what the store did not accept is still there."""
    record = records.encode(
        [tuple(EXAMPLE.values())],
        columns=tuple(EXAMPLE),
        group=CONTRACT.group.name,
        request_ids=["a"],
        predictions=[CONTRACT.classes[0]],
        confidences=[0.5],
        probabilities=[[0.5, 0.3, 0.2]],
        classes=CONTRACT.classes,
        elapsed_ms=[1.0],
        origin=origin("1"),
        created_at=datetime(2025, 8, 31, tzinfo=UTC),
    )
    with socket.create_server(("127.0.0.1", 0)) as mute:  # it accepts connections and never answers
        mute.settimeout(60)
        url = f"mysql+pymysql://someone@127.0.0.1:{mute.getsockname()[1]}/nowhere"
        settings = Settings(home=tmp_path, drain_seconds=0.5, feature_store_url=SecretStr(url))
        outbox = Outbox.claim(settings.outbox, max_records=10)
        outbox.append([record])
        command = [sys.executable, "-m", "ctcd.serving.prediction_log.shipping", str(outbox.path)]
        with subprocess.Popen(command, env=settings.child_environment(), stdin=subprocess.PIPE) as process:  # noqa: S603 - our own program
            connection, _ = mute.accept()
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(8) == 0  # the store's own time is 30 s
            connection.close()
    assert outbox.refresh() == 1
    outbox.close()
