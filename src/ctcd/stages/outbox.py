"""Stages of the predictions that the store does not have: what the outboxes hold, and what to do with dead letters."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctcd.errors import Unreachable
from ctcd.settings import Settings
from ctcd.stages.connections import instance

if TYPE_CHECKING:
    from ctcd.serving.prediction_log.outbox import Outbox
    from ctcd.serving.prediction_log.outbox_files import DeadLetter


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A dead letter, without the values of its predictions; one that cannot be read has no ids, version and time."""

    outbox: str
    number: int
    reason: str
    request_ids: list[str]
    model_version: str | None
    created_at: datetime | None
    size: int


@dataclass(frozen=True, kw_only=True)
class OutboxReport:
    """What the outboxes of a home hold.

    Args:
        waiting: predictions that wait for the store, by file.
        unusable: files that cannot be read as outboxes, with the reason.
    """

    waiting: dict[str, int]
    letters: list[Letter]
    unusable: dict[str, str]
    moved_aside: list[Path]


@dataclass(frozen=True, kw_only=True)
class RetryReport:
    """What became of dead letters that were sent again: how many the store has, and how many not, by reason."""

    sent: int
    left: dict[str, int]
    unusable: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What was exported; if it was removed, it is no longer in the outboxes."""

    path: Path
    letters: int
    removed: bool
    unusable: dict[str, str]


def list_outboxes(settings: Settings) -> OutboxReport:
    """Return what the outboxes hold, and change nothing."""
    from ctcd.serving.prediction_log.outbox_files import moved_aside

    with _outboxes(settings) as (outboxes, unusable):
        return OutboxReport(
            waiting={each.path.name: each.depth for each in outboxes},
            letters=[_described(each.path.name, letter) for each in outboxes for letter in each.letters(limit=None)],
            unusable=unusable,
            moved_aside=moved_aside(settings.outbox),
        )


def retry(settings: Settings) -> RetryReport:
    """Send all dead letters to the store again; what it accepts is no longer a dead letter.

    Raises:
        Unreachable: the store does not answer, or an outbox cannot be written.
        NotFound: the log's table is missing.
    """
    from ctcd.serving.prediction_log.shipper import resend
    from ctcd.serving.prediction_log.shipping import Store

    sent, reasons = 0, Counter[str]()
    with closing(Store(settings.store_url, instance(settings).contract)) as store, _outboxes(settings) as opened:
        outboxes, unusable = opened
        for outbox in outboxes:
            after = 0
            while letters := outbox.letters(after):
                after = letters[-1].seq
                accepted, left = resend(letters, store.send)
                outbox.forget(accepted)
                sent += len(accepted)
                reasons.update(each.reason for each in left)
    return RetryReport(sent=sent, left=dict(reasons), unusable=unusable)


def export(settings: Settings, to: Path, *, remove: bool = False) -> ExportReport:
    """Write all dead letters to a file, one JSON object on each line; only its owner may read it.

    A line has the outbox, number and reason of a dead letter, and either its predictions or, if they cannot be read,
    its bytes in base64. An existing file is replaced. With `remove` they are deleted from the outboxes once the file
    is on disk.

    Raises:
        Unreachable: the disk of an outbox does not accept the change; the file is complete.
        UsageError: the file cannot be written.
    """
    from pydantic_core import to_json

    from ctcd.files import replacing, writing_to

    with _outboxes(settings) as (outboxes, unusable):
        exported = [(outbox, outbox.letters(limit=None)) for outbox in outboxes]
        with writing_to(to), replacing(to, synced=True) as unfinished:
            unfinished.touch(0o600)
            with unfinished.open("wb") as file:
                for outbox, letters in exported:
                    file.writelines(to_json(_content(outbox.path.name, each)) + b"\n" for each in letters)
        if remove:
            for outbox, letters in exported:
                outbox.forget(letters)
    count = sum(len(letters) for _, letters in exported)
    return ExportReport(path=to, letters=count, removed=remove, unusable=unusable)


@contextmanager
def _outboxes(settings: Settings) -> Iterator[tuple["list[Outbox]", dict[str, str]]]:
    """Open the outboxes of a home, whether they are in use or not; yield them, and why others cannot be opened, by name.

    Raises:
        OSError: their folder cannot be read.
    """
    from ctcd.files import files_in
    from ctcd.serving.prediction_log.outbox import Outbox
    from ctcd.serving.prediction_log.outbox_files import SUFFIX

    unusable: dict[str, str] = {}
    with ExitStack() as stack:
        opened = []
        # Before the first start there are none. The home as it was given may be a link to a disk that is not mounted.
        for path in files_in(settings.home / settings.outbox.name, SUFFIX):
            try:
                outbox = stack.enter_context(closing(Outbox.attach(path)))
                outbox.check()
                opened.append(outbox)
            except Unreachable as error:
                unusable[path.name] = error.what
        yield opened, unusable


def _described(name: str, letter: "DeadLetter") -> Letter:
    from ctcd.serving.prediction_log import records

    try:
        predictions = records.decode(letter.body)
    except records.Unreadable:
        predictions = []
    return Letter(
        outbox=name,
        number=letter.seq,
        reason=letter.reason,
        request_ids=[each.request_id for each in predictions],
        model_version=predictions[0].model_version if predictions else None,
        created_at=predictions[0].created_at if predictions else None,
        size=len(letter.body),
    )


def _content(name: str, letter: "DeadLetter") -> dict[str, Any]:
    from base64 import b64encode

    from ctcd.serving.prediction_log import records

    described: dict[str, Any] = {"outbox": name, "number": letter.seq, "reason": letter.reason}
    try:
        return described | {"predictions": [asdict(each) for each in records.decode(letter.body)]}
    except records.Unreadable:
        return described | {"base64": b64encode(letter.body).decode()}
