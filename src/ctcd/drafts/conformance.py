"""The conformance suite of estimators: rules that training, gate, batch scoring and service rely on."""

import marshal
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcd.contract.instance import Instance
from ctcd.contract.payload import request_rows
from ctcd.contract.policy_file import read_toml
from ctcd.contract.spec import Contract, Kind, names
from ctcd.drafts.check import synthetic_frame
from ctcd.errors import DataRefused
from ctcd.files import digest_of
from ctcd.model.metrics import checked_probabilities
from ctcd.model.probes import UNSEEN, save_probes, verify_probes
from ctcd.model.scorer import Scorer
from ctcd.training.grid import Profile, load_profile
from ctcd.training.preprocess import fit_encoder
from ctcd.training.split import Split, split_by_group
from ctcd.training.trial import fit_trial, labelled_part, prepared

ROWS = 600
"""Rows of synthetic data that an estimator is fitted and scored on."""
SINGLE_ROWS = 20
"""Rows that are scored one by one."""
THREADS = 4
"""Threads that score concurrently."""
LOCKS = ("ct.txt", "serve.txt")
"""Locks of the images in which models are loaded, in the folder `requirements` beside the instance."""
TOLERANCE = 1e-9
"""Maximum difference of probabilities that count as equal."""

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Conformance:
    """What the suite found about one estimator.

    Args:
        profile: profile whose first trial was fitted.
        rules: problem by rule; empty if the rule is kept. If the fit fails, there are no other rules.
    """

    estimator: str
    profile: str
    rules: dict[str, str]

    @property
    def broken(self) -> dict[str, str]:
        """The rules that are broken."""
        return {rule: problem for rule, problem in self.rules.items() if problem}


def check_estimators(instance: Instance) -> list[Conformance]:
    """Return what the suite finds about every estimator that the instance's profiles name, in their order.

    Raises:
        UsageError: a profile is wrong, or names an estimator that does not exist or does not follow the protocol.
        DataRefused: there are no synthetic data.
    """
    profiles: dict[str, list[Profile]] = {}
    for name in read_toml(instance.training_profiles):
        profile = load_profile(name, instance)
        profiles.setdefault(profile.estimator, []).append(profile)
    frame = synthetic_frame(instance.contract, rows=ROWS)
    # Of each estimator the profile that is fitted fastest.
    fastest = [min(found, key=lambda profile: profile.trials()[0].rounds) for found in profiles.values()]
    return [check_estimator(profile, instance, frame) for profile in fastest]


def check_estimator(profile: Profile, instance: Instance, frame: pd.DataFrame) -> Conformance:
    """Return what the suite finds about the estimator of a profile, fitted on rows with features and label."""
    split = split_by_group(frame, instance.contract, seed=42)
    suite = _Suite(profile, instance.contract, split, instance.folder.with_name("requirements"))
    rules = {"fit": _problem(suite.fitted)}
    if not rules["fit"]:
        rules |= {rule: _problem(check) for rule, check in suite.checks().items()}
    return Conformance(estimator=profile.estimator, profile=profile.name, rules=rules)


def _problem(check: Callable[[], object]) -> str:
    try:
        check()
    except DataRefused as error:
        return error.what
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it may raise anything; the data are synthetic, so the text may be shown
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


class _Suite:
    """The checks; each raises if its rule is broken."""

    def __init__(self, profile: Profile, contract: Contract, split: Split, locks: Path) -> None:
        self._profile, self._contract, self._split, self._locks = profile, contract, split, locks
        self._rows = [{name: row[name] for name in self._inputs} for row in request_rows(split.holdout, contract)]

    @property
    def _inputs(self) -> list[str]:
        return names(self._contract.model_inputs)

    def checks(self) -> dict[str, Callable[[], object]]:
        """Return the checks by the name of their rule."""
        return {
            "requirements": self.requirements,
            "repeatable": self.repeatable,
            "frame against rows": lambda: self.agree(self._rows),
            "unseen categories": self.unseen,
            "missing values": self.missing,
            "save and load": self.loads,
            "nothing unpickled": self.unpickles_nothing,
            "hash stability": self.stable,
            "probes": self.probes,
            "threads": self.threads,
        }

    def fitted(self) -> Scorer:
        """Fit, and check the probabilities of the holdout."""
        table = self._scorer.probabilities(self._split.holdout)
        self._sound(table, len(self._split.holdout))
        return self._scorer

    @cached_property
    def _scorer(self) -> Scorer:
        return self._fit()

    @cached_property
    def _again(self) -> Scorer:
        return self._fit()

    def _fit(self) -> Scorer:
        profile, contract, split = self._profile, self._contract, self._split
        estimator = prepared(profile.kind, split.train, fit_encoder(split.train, contract))
        train, validation = (labelled_part(part, estimator, contract) for part in (split.train, split.validation))
        found, _ = fit_trial(
            estimator, train, validation, profile.trials()[0], classes=contract.classes, seed=42, threads=1
        )
        return Scorer(
            name=contract.name, contract_version=contract.version, classes=contract.classes, estimator=found, params={}
        )

    def _sound(self, table: Any, rows: int) -> NDArray[np.float64]:
        return checked_probabilities(table, rows=rows, classes=self._contract.classes)

    def requirements(self) -> None:
        """Every package that the estimator requires is installed, and is in the locks of the images if there are any."""
        locks = [lock for lock in map(self._locks.joinpath, LOCKS) if lock.is_file()]
        for name in self._profile.kind.requirements:
            distribution(name)
            line = rf"(?im)^{re.sub('[-_.]+', '[-_.]+', name)}(\[.*\])?=="
            if missing := [lock.name for lock in locks if not re.search(line, lock.read_text(encoding="utf-8"))]:
                raise ValueError(f"{name} is not in {', '.join(missing)}: add it to requirements.in, and run make lock")

    def repeatable(self) -> None:
        """Fitting again gives the same probabilities."""
        _same("a second fit", self._again.probabilities_of(self._rows), self._scorer.probabilities_of(self._rows))

    def agree(self, rows: list[Row]) -> None:
        """A frame, the rows together and each row alone get the same valid probabilities."""
        expected = self._sound(
            self._scorer.probabilities(pd.DataFrame(rows, columns=self._inputs, dtype=object)), len(rows)
        )
        _same("rows and a frame of them", self._scorer.probabilities_of(rows), expected)
        alone = np.vstack([self._scorer.probabilities_of([row]) for row in rows[:SINGLE_ROWS]])
        _same("rows alone and together", alone, expected[:SINGLE_ROWS])

    def unseen(self) -> None:
        """A category that is not in the training data gives valid probabilities."""
        columns = [column.name for column in self._contract.model_inputs if column.kind is Kind.CATEGORY]
        self.agree([row | {name: UNSEEN} for name in columns for row in self._rows[:2]] or self._rows[:1])

    def missing(self) -> None:
        """A null in any column, or in all of them, gives valid probabilities."""
        row = self._rows[0]
        self.agree([row | {name: None} for name in self._inputs] + [dict.fromkeys(self._inputs)])

    def loads(self) -> None:
        """A model gives the same probabilities after saving and loading."""
        with TemporaryDirectory() as folder:
            self._scorer.save(Path(folder))
            loaded = Scorer.load(Path(folder))
        _same("after loading", loaded.probabilities_of(self._rows), self._scorer.probabilities_of(self._rows))

    def unpickles_nothing(self) -> None:
        """Loading neither unpickles nor evaluates anything, even if one of the files is replaced by a pickle."""
        kind, encoder = self._profile.kind, self._scorer.encoder
        with TemporaryDirectory() as folder:
            stored = Path(folder) / kind.stored
            self._scorer.estimator.save(stored)
            kind(encoder).load(stored)  # so that later loads import no modules, which would be evaluated
            with _code_that_runs() as called:
                kind(encoder).load(stored)
                for file in sorted(stored.rglob("*")) if stored.is_dir() else [stored]:
                    if file.is_file():
                        content = file.read_bytes()
                        file.write_bytes(pickle.dumps(_Canary()))
                        with suppress(Exception):  # the file is none of its own
                            kind(encoder).load(stored)
                        file.write_bytes(content)
        if called:
            raise ValueError(f"load calls {', '.join(sorted(called))}: store numbers and text instead")

    def stable(self) -> None:
        """Saving again, and saving an equal model, gives the same bytes."""
        digests = []
        for model in (self._scorer, self._scorer, self._again):
            with TemporaryDirectory() as folder:
                model.save(Path(folder))
                digests.append(digest_of(Path(folder) / self._profile.kind.stored))
        if len(set(digests)) > 1:
            what = (
                "a second fit gives another file" if digests[0] == digests[1] else "saving twice gives different files"
            )
            raise ValueError(f"{what}: leave out times, addresses and random names")

    def probes(self) -> None:
        """Examples, bounds, categories and nulls get the same answers after loading."""
        with TemporaryDirectory() as folder:
            self._scorer.save(Path(folder))
            save_probes(self._scorer, self._contract, Path(folder))
            verify_probes(Scorer.load(Path(folder)), Path(folder))

    def threads(self) -> None:
        """Concurrent calls from several threads do not affect each other."""
        batches = [self._rows[start::THREADS] for start in range(THREADS)]
        expected = [self._scorer.probabilities_of(batch) for batch in batches]
        with ThreadPoolExecutor(THREADS) as pool:
            for found in [pool.map(self._scorer.probabilities_of, batches) for _ in range(3)]:
                for answer, alone in zip(found, expected, strict=True):
                    _same("at the same time and alone", answer, alone)


def _same(what: str, found: NDArray[np.float64], expected: NDArray[np.float64]) -> None:
    if found.shape != expected.shape:
        raise ValueError(f"{what}: shapes {found.shape} and {expected.shape}")
    gap = float(np.abs(found - expected).max(initial=0))
    if not gap <= TOLERANCE:  # NaN differs, too
        raise ValueError(f"{what}: probabilities differ by {gap:.3g}, more than {TOLERANCE:g}")


RUNS_CODE = {
    pickle.load: "pickle.load",
    pickle.loads: "pickle.loads",
    marshal.load: "marshal.load",
    marshal.loads: "marshal.loads",
    eval: "eval",
    exec: "exec",
}
"""Functions that execute code named or contained in their argument."""


class _Canary:
    """An object whose pickle runs `_sing`."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return _sing, ()


def _sing() -> None:
    """Do nothing; only the call is observed."""


@contextmanager
def _code_that_runs() -> Iterator[set[str]]:
    """Yield a set that collects the names of such functions that this thread calls."""
    called: set[str] = set()

    def watch(frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and function in RUNS_CODE:
            called.add(RUNS_CODE[function])
        elif event == "c_call" and isinstance(function.__self__, pickle.Unpickler):
            called.add("pickle.Unpickler")
        elif event == "call" and frame.f_code.co_qualname in ("_Unpickler.load", _sing.__qualname__):
            called.add("pickle.Unpickler")  # the one in Python, from which joblib's is derived, or one called from C

    earlier = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield called
    finally:
        sys.setprofile(earlier)
