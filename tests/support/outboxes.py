"""Outboxes of processes of their own, on file systems of any size."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from support.instance import CONTRACT
from support.serving import EXAMPLE, origin

from ctcd.model.scorer import Predictions
from ctcd.serving.prediction_log import records
from ctcd.serving.prediction_log.outbox import Outbox, OutboxFull
from ctcd.settings import Settings

NOWHERE = "mysql+pymysql://nobody@127.0.0.1:9/nowhere_test"
"""A store that is away."""


def record(*request_ids: str, **changed: object) -> bytes:
    many = len(request_ids)
    return records.encode(
        [tuple((EXAMPLE | changed).values())] * many,
        columns=tuple(EXAMPLE),
        group=CONTRACT.group.name,
        request_ids=request_ids,
        predictions=Predictions(
            classes=[CONTRACT.classes[0]] * many,
            confidences=[0.5] * many,
            probabilities=[[0.5, 0.3, 0.2]] * many,
            class_order=CONTRACT.classes,
        ),
        elapsed_ms=[1.0] * many,
        origin=origin("1"),
        created_at=datetime(2025, 8, 31, tzinfo=UTC),
    )


@contextmanager
def shipping(settings: Settings, path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the process that ships an outbox."""
    command = [sys.executable, "-m", "ctcd.serving.prediction_log.shipping", str(path)]
    with subprocess.Popen(command, env=settings.child_environment(), stdin=subprocess.PIPE) as process:  # noqa: S603 - ours
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def disk_of(size: int, folder: Path) -> Iterator[None]:
    """Make a folder with a file system of so many bytes: mounted as root or with sudo, else a container's own /dev, filled up."""
    folder.mkdir(parents=True)
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=1777", "none", str(folder)]
    mounted = subprocess.run([*as_root, *mount], check=False, capture_output=True, text=True)  # noqa: S603 - fixed arguments
    if mounted.returncode == 0:
        try:
            yield
        finally:
            subprocess.run([*as_root, "umount", "-l", str(folder)], check=True)  # noqa: S603 - as above
        return
    # A container may not mount anything, but Docker gives each one a small tmpfs for devices, where nobody else needs space.
    devices = os.statvfs("/dev")
    free = devices.f_bavail * devices.f_frsize
    assert size < free < 1 << 30, f"no small file system: {mounted.stderr}, and /dev has {free:,} bytes"
    with TemporaryDirectory(dir="/dev", prefix="ctcd-") as place:
        with (Path(place) / "ballast").open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, free - size)
        (Path(place) / "outbox").mkdir()
        folder.rmdir()
        folder.symlink_to(Path(place) / "outbox")
        yield


def fill(outbox: Outbox) -> list[str]:
    """Append records until the disk is full; return the request ids of those that were accepted."""
    accepted: list[str] = []
    try:
        while True:
            batch = [str(uuid4()) for _ in range(32)]
            outbox.append([record(*batch)], [len(batch)])
            accepted += batch
    except OutboxFull:
        return accepted
