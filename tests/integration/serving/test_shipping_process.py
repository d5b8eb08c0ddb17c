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

from ctcd.model.scorer import Predictions
from ctcd.serving.prediction_log import records
from ctcd.serving.prediction_log.outbox import Outbox
from ctcd.settings import Settings

pytestmark = pytest.mark.integration

HANGING = "import threading; threading.Thread(target=threading.Event().wait).start(); "
"""Starts a thread that hangs, as a challenger may."""


def test_a_store_that_hangs_does_not_prevent_the_process_from_ending(tmp_path: Path) -> None:
    """Once its worker is gone and the time to drain is over, it ends, and what the store did not accept is still there."""
    record = records.encode(
        [tuple(EXAMPLE.values())],
        columns=tuple(EXAMPLE),
        group=CONTRACT.group.name,
        request_ids=["a"],
        predictions=Predictions(
            classes=[CONTRACT.classes[0]],
            confidences=[0.5],
            probabilities=[[0.5, 0.3, 0.2]],
            class_order=CONTRACT.classes,
        ),
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


def test_a_thread_of_a_challenger_does_not_prevent_the_process_from_ending(tmp_path: Path) -> None:
    """A process that scores with a challenger ends although a thread that its code started hangs."""
    settings = Settings(home=tmp_path, drain_seconds=0.5)
    outbox = Outbox.claim(settings.outbox, max_records=10)
    shipping = "import sys; from pathlib import Path; from ctcd.serving.prediction_log.shipping import main; "
    command = [sys.executable, "-c", f"{HANGING}{shipping}main(Path(sys.argv[1]))", str(outbox.path)]
    process = subprocess.run(  # noqa: S603 - our own program
        command, env=settings.child_environment(), stdin=subprocess.DEVNULL, timeout=30, check=False
    )
    assert process.returncode == 0
    outbox.close()


def test_a_thread_of_a_challenger_does_not_prevent_a_consumer_from_ending() -> None:
    """With its exit code, and with everything that it has written."""
    running = "from ctcd.cli import app, main; app.run = lambda _arguments: print('written') or 5; main(['consume'])"
    process = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", HANGING + running], capture_output=True, timeout=30, check=False
    )
    assert (process.returncode, process.stdout, process.stderr) == (5, b"written\n", b"")
