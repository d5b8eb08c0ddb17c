"""An outbox that has filled its disk while the store was away: how long is it emptied, and with how much space?"""

import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import SecretStr
from sqlalchemy.engine import URL
from support.instance import INSTANCE
from support.load import wait
from support.mariadb import database, own_server
from support.outboxes import NOWHERE, disk_of, fill, record, shipping
from support.serving import logged_ids

from benchmarks.repeating import repeating
from ctcd.cli.output import table
from ctcd.serving.prediction_log.outbox import Outbox
from ctcd.serving.prediction_log.outbox_files import RESERVE
from ctcd.settings import Settings
from ctcd.store.migrations import upgrade

DISK_BYTES, ROOMY_BYTES = 44 << 20, 256 << 20
"""Sizes of the file systems; to mount the second one takes the rights of root."""
BATCH = 32
"""Predictions in a record."""
PAUSE = 0.005
"""Seconds between two looks at the disk."""


@dataclass(frozen=True, kw_only=True)
class DiskResult:
    """One outbox.

    Args:
        disk: which disk it is on.
        predictions: how many it held when the store came back.
        free_mib: space that was left then besides the reserve, MiB.
        needed_mib: by how much its files, without the reserve, grew at most until it was empty, MiB.
        seconds: until it was empty.
        times_roomy: `seconds` as a multiple of the time of as many predictions on a disk with space.
        accepting: seconds until it accepted records again.
        lost: predictions that are not in the store in the end.
        twice: those that are there more than once.
    """

    disk: str
    predictions: int
    free_mib: float
    needed_mib: float
    seconds: float
    times_roomy: float
    accepting: float
    lost: int
    twice: int


def run(_data: Path | None) -> list[DiskResult]:
    """Fill a small disk and empty it; then as many predictions on a disk with space, which are the baseline."""
    with own_server() as server:
        full = _measure(server.url, None)
        roomy = _measure(server.url, full.predictions)
    results = [DiskResult(**(vars(each) | {"times_roomy": each.seconds / roomy.seconds})) for each in (roomy, full)]
    table(
        "An outbox after the store was away (baseline: a disk with space); targets: none lost, none twice",
        ("disk", "predictions", "MiB free", "MiB needed", "seconds", "times roomy", "accepts after", "lost", "twice"),
        [
            (
                each.disk,
                each.predictions,
                round(each.free_mib, 1),
                round(each.needed_mib, 1),
                round(each.seconds, 1),
                round(each.times_roomy, 2),
                round(each.accepting, 1),
                each.lost,
                each.twice,
            )
            for each in results
        ],
    )
    return results


def _measure(server: URL, predictions: int | None) -> DiskResult:
    """Fill an outbox, with so many predictions or until its disk is full, and have it emptied."""
    with TemporaryDirectory(prefix="ctcd-bench-") as home, database(server) as store:
        url = store.render_as_string(hide_password=False)
        upgrade(url, INSTANCE.migrations)
        settings = Settings(
            home=Path(home), contracts=INSTANCE.folder, drain_seconds=1, feature_store_url=SecretStr(NOWHERE)
        )
        back = settings.model_copy(update={"feature_store_url": SecretStr(url)})
        with disk_of(ROOMY_BYTES if predictions else DISK_BYTES, settings.outbox):
            outbox = Outbox.claim(settings.outbox, max_records=10**7)
            accepted = _filled(outbox, settings, predictions)
            free, before, most = _free(settings.outbox), _used(settings.outbox), [0]

            def look() -> None:
                most[0] = max(most[0], _used(settings.outbox))

            with repeating(look, pause=PAUSE), shipping(back, outbox.path):
                began = time.perf_counter()
                wait(lambda: outbox.refresh() == 0, 180)
                seconds = time.perf_counter() - began
                wait(outbox.usable, 60)
                accepting = time.perf_counter() - began
            outbox.close()
        found = Counter(logged_ids(url))
    return DiskResult(
        disk="with space" if predictions else f"{DISK_BYTES >> 20} MiB, full",
        predictions=len(accepted),
        free_mib=free / 2**20,
        needed_mib=max(0, most[0] - before) / 2**20,
        seconds=seconds,
        times_roomy=0.0,
        accepting=accepting,
        lost=len(set(accepted) - set(found)),
        twice=sum(count > 1 for count in found.values()),
    )


def _filled(outbox: Outbox, settings: Settings, predictions: int | None) -> list[str]:
    """Fill an outbox while the process that ships it cannot; return the request ids."""
    accepted: list[str] = []
    with shipping(settings, outbox.path):
        if predictions is None:
            accepted += fill(outbox)
            wait(lambda: outbox.failure != "")
            return accepted + fill(outbox)
        while len(accepted) < predictions:
            ids = [f"{number:032x}" for number in range(len(accepted), len(accepted) + BATCH)]
            outbox.append([record(*ids)], [BATCH])
            accepted += ids
    return accepted


def _used(folder: Path) -> int:
    """Return the bytes that the files of a folder take on disk, without the reserve."""
    sizes = 0
    for path in folder.iterdir():
        try:
            sizes += path.stat().st_blocks * 512 if not path.name.startswith("1" + RESERVE) else 0
        except FileNotFoundError:  # removed meanwhile
            continue
    return sizes


def _free(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
