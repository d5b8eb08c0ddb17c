"""Defects that are planted in objects of this process: data, models, configuration, requests, workflows."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from support.instance import CONTRACT

from prove.base import Area, Defect, Stale
from prove.subjects import (
    CI,
    DAY,
    DEPLOY,
    GATE,
    INGEST,
    LOAD,
    MONITOR,
    POLICY,
    RELEASE,
    REQUEST,
    SETTINGS,
    SETUP,
    VALIDATE,
    WORKFLOW,
    Candidate,
    Model,
    Monitored,
    Raw,
    holdout,
    right_in,
    sure,
    truth,
)

LABEL, GROUP = CONTRACT.label.name, CONTRACT.group.name


# Raw tables.


def _cell(column: str, value: str, table: str = "features") -> Callable[[Raw], Raw]:
    """Return a plant that writes one cell in the middle of a raw table."""

    def plant(raw: Raw) -> Raw:
        frame = getattr(raw, table)
        frame.loc[len(frame) // 2, column] = value
        return raw

    return plant


def _columns(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Raw], Raw]:
    return lambda raw: Raw(change(raw.features), raw.labels)


def _swapped(frame: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
    return frame.assign(**{one: frame[other], other: frame[one]})


def _repeat(raw: Raw) -> Raw:
    return Raw(pd.concat([raw.features, raw.features.iloc[[7]]], ignore_index=True), raw.labels)


RAW = [
    ("day that does not exist", _cell("day", "2025-02-29", "labels"), "day"),
    ("unit of a column off by a thousand", _columns(lambda f: f.assign(power=_divided(f.power, 1_000))), "power"),
    ("sum of a year in the column of a month", _columns(lambda f: f.assign(output=_divided(f.output, 1 / 12))), "output_agrees_with_power"),
    ("two columns swapped that differ in kind", _columns(lambda f: _swapped(f, "grade", "shift")), "grade"),
    ("row delivered twice", _repeat, "duplicate key"),
    ("unknown category", _cell("grade", "Excellent"), "grade"),
    ("unknown class", _cell(LABEL, "brilliant", "labels"), LABEL),
    ("personal number in a feature", _cell("maker", "B-0000"), "maker"),
    ("text in a number", _cell("vibration", "__14__"), "vibration"),
    ("required value missing", _cell("stops", ""), "stops"),
    ("more entries in a list than counted", _cell("parts", ",".join(["bearing"] * 12)), "one_entry_per_part"),
    ("column gone", _columns(lambda f: f.drop(columns="wear")), "wear"),
    ("column of unknown meaning", _columns(lambda f: f.assign(score_2024="1")), "score_2024"),
    ("more bad rows than the contract allows", _columns(lambda f: f.assign(hours=f.hours.mask(f.index % 20 == 0, "-500"))), "allows"),
    ("empty delivery", lambda raw: Raw(raw.features.iloc[:0], raw.labels), "no rows"),
]  # fmt: skip


def _divided(values: "pd.Series[Any]", by: float) -> "pd.Series[Any]":
    return (values.astype(float) / by).round(4).astype(str)


# Snapshots.


def _set(column: str, value: float) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def plant(frame: pd.DataFrame) -> pd.DataFrame:
        changed = frame.astype({column: object})
        changed.loc[frame.index[5], column] = value
        return changed

    return plant


SNAPSHOT = [
    ("label leaks through a column", lambda f: f.assign(label_copy=f[LABEL]), "label_copy"),
    ("personal column in a snapshot", lambda f: f.assign(operator="somebody"), "operator"),
    ("key twice in a snapshot", lambda f: pd.concat([f, f.iloc[[0]]], ignore_index=True), "duplicate key"),
    ("feature missing from a snapshot", lambda f: f.drop(columns="grade"), "grade"),
    ("value below its bound", _set("hours", 0), "hours"),
    ("fraction in a whole number", _set("num_parts", 1.5), "num_parts"),
    ("snapshot without a row", lambda f: f.iloc[:0], "no rows"),
]


def _monitored(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Monitored], Monitored]:
    return lambda monitored: replace(monitored, frame=change(monitored.frame))


def _fewer_of_a_class(frame: pd.DataFrame) -> pd.DataFrame:
    most = CONTRACT.classes[1]
    rare = frame[LABEL].eq(CONTRACT.classes[0]) & (np.arange(len(frame)) % 2 == 0)
    return frame.assign(**{LABEL: frame[LABEL].mask(rare, most)})


MONITORED = [
    ("yesterday's snapshot for today", lambda w: replace(w, wanted=DAY + timedelta(days=1)), CONTRACT.snapshot_date),
    ("two columns swapped that are alike in kind", _monitored(lambda f: _swapped(f, "vibration", "stops")), "vibration"),
    ("percentages that became shares", _monitored(lambda f: f.assign(wear=f.wear / 100)), "wear"),
    ("half of the rows lost", _monitored(lambda f: f.iloc[: len(f) // 2 - 1]), "row"),
    ("class gone", _monitored(lambda f: f[f[LABEL] != CONTRACT.classes[2]]), LABEL),
    ("share of a class moved", _monitored(_fewer_of_a_class), LABEL),
    ("values of a column missing", _monitored(lambda f: f.assign(shift=f["shift"].where(f.index % 10 > 0, None))), "shift"),
]  # fmt: skip


# Models.


def _model(make: Callable[[], Model]) -> Callable[[Candidate], Candidate]:
    return lambda candidate: replace(candidate, model=make())


def _known(**changes: Any) -> Callable[[Candidate], Candidate]:
    return lambda candidate: replace(candidate, known=candidate.known | changes)


def _never(given_up: int) -> Model:
    predicted = right_in(0.95)
    return sure(np.where(predicted == given_up, (given_up + 1) % 3, predicted), 0.8)


def _wrong_for_one_maker() -> Model:
    makers = holdout()["maker"]
    wrong = (truth() + 1) % len(CONTRACT.classes)
    return sure(np.where(makers == makers.iloc[0], wrong, right_in(0.9)), 0.82)


def _slow(seconds: float, rows: Callable[[int], bool]) -> Callable[[Candidate], Candidate]:
    calls = iter(range(1_000_000))

    def plant(candidate: Candidate) -> Candidate:
        # One slow call in eight is enough to move the 95th percentile, and keeps the proof fast.
        candidate.model.pause = lambda count: seconds if rows(count) and (count > 1 or next(calls) % 8 == 0) else 0.0
        return candidate

    return plant


def _spoiled(change: Callable[[Any], Any]) -> Callable[[Candidate], Candidate]:
    def plant(candidate: Candidate) -> Candidate:
        candidate.model.table = change(candidate.model.table)
        return candidate

    return plant


MODELS = [
    ("always the most frequent class", _model(lambda: sure(np.full(len(truth()), 1), 0.55)), "macro F1"),
    ("classes by chance", _model(lambda: sure(right_in(1 / 3), 0.4)), "accuracy"),
    *((f"never predicts {name}", _model(partial(_never, place)), f"recall of {name}") for place, name in enumerate(CONTRACT.classes)),
    ("overconfident", _model(lambda: sure(right_in(0.82), 0.999)), "expected calibration error"),
    ("order of the classes permuted", _spoiled(lambda table: table[:, ::-1]), "accuracy"),
    ("NaN as a probability", _spoiled(lambda table: table * np.nan), "rows scored"),
    ("probabilities that sum to 2", _spoiled(lambda table: table * 2), "rows scored"),
    ("wrong for one maker", _model(_wrong_for_one_maker), "accuracy of the worst maker"),
    ("worse than the champion", _model(lambda: sure(right_in(0.72), 0.72)), "compared with the champion"),
    ("no better than the champion", lambda c: replace(c, champion=c.model), "exact tie"),
    ("slow for one row", _slow(0.05, lambda rows: rows == 1), "one row, p95 in ms"),
    ("slow for many rows", _slow(1.2, lambda rows: rows > 1), "a row of a batch in ms"),
    ("artifact of 3 GB", _known(artifact_bytes=3_000_000_000), "artifact in MB"),
    ("trained for another contract", _known(contract_version="0.9.0"), "contract version"),
    ("trained on old data", _known(trained_on=DAY - timedelta(days=30)), "days since the training data"),
    ("trained on data of unknown age", _known(trained_on=None), "days since the training data"),
    ("rolled back before", _known(rolled_back=True), "rollback"),
    ("judged on its training rows", _known(seen_groups=set(holdout()[GROUP])), "rows compared"),
]  # fmt: skip


# Text.


def _first(old: str, new: str, *, after: str) -> Callable[[str], str]:
    def plant(text: str) -> str:
        before, found, rest = text.partition(after)
        if old not in rest:
            raise Stale(f"{old!r} does not occur after {after.strip()!r}")
        return before + found + rest.replace(old, new, 1)

    return plant


def _text(old: str, new: str) -> Callable[[str], str]:
    def plant(text: str) -> str:
        if text.count(old) != 1:
            raise Stale(f"{old.strip()!r} occurs {text.count(old)} times, not once")
        return text.replace(old, new)

    return plant


POLICIES = [
    ("floor of 0", _text("accuracy = 0.66", "accuracy = 0.0"), "floors.accuracy"),
    ("floor of a class removed", _text("failing = 0.55\n", ""), "no floor for class failing"),
    ("misspelled rule", _text("macro_f1 = 0.64", "macro_f1 = 0.64\nf1_macro = 0.64"), "f1_macro"),
    ("comparison switched off without a reason", _text("[comparison]", "[comparison]\ndisabled = true"), "comparison"),
    ("margin that lets everything pass", _text("margin = 0.02", "margin = 1.0"), "margin"),
    ("slices removed", _text('[slices.by]\n', "[slices.of]\n"), "slices"),
    ("slices of one row", _text("min_rows = 50", "min_rows = 1"), "min_rows"),
    ("training data of any age accepted", _text("max_age_days = 7", "max_age_days = 36500"), "max_age_days"),
]  # fmt: skip

CONFIGURATION = [
    ("placeholder password in production", lambda s: s | {"feature_store_url": s["feature_store_url"].replace("kJ8-long-and-secret", "changeme")}, "placeholder"),
    ("SQLite file as production's store", lambda s: s | {"feature_store_url": "sqlite:///store.db"}, "database server"),
    ("unknown time zone", lambda s: s | {"timezone": "Mars/Olympus"}, "IANA"),
]  # fmt: skip


def _row(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda body: body | {"data": change(body["data"])}


REQUESTS = [
    ("client renames a field", _row(lambda r: {("running_hours" if k == "hours" else k): v for k, v in r.items()}), "running_hours"),
    ("client leaves a field out", _row(lambda r: {k: v for k, v in r.items() if k != "hours"}), "hours"),
    ("client sends a number as text", _row(lambda r: r | {"power": "20.5"}), "power"),
    ("client sends an unknown category", _row(lambda r: r | {"grade": "Excellent"}), "grade"),
    ("client sends infinity", _row(lambda r: r | {"wear": float("inf")}), "wear"),
]  # fmt: skip

TIMES = ("p50_ms", "p95_ms", "p99_ms")
SERVICE = [
    ("50 ms added to every answer", lambda m: m | {name: m[name] + 50 for name in TIMES}, "p50_ms"),
    ("50 ms added to one answer in ten", lambda m: m | {name: m[name] + 50 for name in TIMES[1:]}, "p95_ms"),
    ("one request in a hundred fails", lambda m: m | {"failures": m["requests"] // 100}, "failures"),
    ("half of the throughput", lambda m: m | {"requests_per_second": m["requests_per_second"] / 2}, "requests per second"),
]  # fmt: skip

GATE_RUN = "- run: ctcd gate"
WORKFLOWS = [
    ("exit code swallowed", _text(GATE_RUN, f"{GATE_RUN} || true"), "swallowed"),
    ("failing gate that does not stop the job", _text(GATE_RUN, f"{GATE_RUN}\n        continue-on-error: true"), "continue-on-error"),
    ("exit code lost in a pipeline", _text("defaults:\n  run:\n    shell: bash\n", ""), "pipe hides"),
    ("promotion that does not wait for the gate", _text("    needs: [gate]\n", ""), "does not need gate"),
    ("promotion although the gate failed", _text("    needs: [gate]\n", "    needs: [gate]\n    if: always()\n"), "runs even if"),
    ("write access for every job", _text("permissions: {}\nconcurrency", "permissions: write-all\nconcurrency"), "permissions at the top"),
    ("write access without a reason", _text("write # publishes the release", "write"), "without a reason"),
    ("action that is not pinned", _text("@0123456789abcdef0123456789abcdef01234567 # v5.0.0", "@v5"), "not pinned"),
    ("code of a fork run with write access", _text("  pull_request:\n", "  pull_request_target:\n"), "pull_request_target"),
    ("job without a timeout", _text("    timeout-minutes: 20\n    environment", "    environment"), "timeout"),
    ("summary that ignores the results", _text("join(needs.*.result, ',')", "github.sha"), "ignores the results"),
]  # fmt: skip

SHIPPING = [
    ("skipped required job that counts as passed", CI, _text('[ "$VERSIONS $CHECKS', '[[ ! "$VERSIONS $CHECKS $UNIT $TEST $DEMO $IMAGES $ADOPT" =~ failure|cancelled ]] || exit 1; true || [ "$VERSIONS $CHECKS'), "although checks was skipped"),
    ("required job that the summary ignores", CI, _text("needs: [versions, checks,", "needs: [versions,"), "sums up without checks"),
    ("gate of a release that may fail", RELEASE, _text("        run: make gate\n", "        run: make gate\n        continue-on-error: true\n"), "threshold: continue-on-error"),
    ("image of a version that the gate refused", RELEASE, _text("    needs: threshold\n", "    needs: threshold\n    if: ${{ always() }}\n"), "image: runs even if"),
    ("deployment that needs no gate", RELEASE, _text("    needs: threshold\n", "    needs: configured\n"), "no gate has passed"),
    ("untrusted input in a command", RELEASE, _text("run: make push-image", "run: make push-image TAG=${{ inputs.version }}"), "written into a command"),
    ("deployment by tag", RELEASE, _first("${{ needs.image.outputs.image }}", "${{ vars.IMAGE_REPOSITORY }}:latest", after="\n  production:\n"), "production-deploy: deploys"),
    ("deployment by tag in the reusable workflow", DEPLOY, _text("IMAGE: ${{ inputs.image }}", "IMAGE: ${{ vars.IMAGE_REPOSITORY }}:latest"), "staging-deploy: deploys"),
    ("cached packages in a release", SETUP, _text(" && github.event_name == 'pull_request'", ""), "image: a cache outside pull requests"),
    ("image that was not verified", RELEASE, _text("    needs: [threshold, image, verify, staging]\n", "    needs: [image]\n"), "was not verified"),
]  # fmt: skip

DEFECTS = [
    *(Defect(name=name, area=Area.DATA, gate=INGEST, plant=plant, expected=expected) for name, plant, expected in RAW),
    *(
        Defect(name=name, area=Area.DATA, gate=VALIDATE, plant=plant, expected=expected)
        for name, plant, expected in SNAPSHOT
    ),
    *(
        Defect(name=name, area=Area.DATA, gate=MONITOR, plant=plant, expected=expected)
        for name, plant, expected in MONITORED
    ),
    *(
        Defect(name=name, area=Area.MODEL, gate=GATE, plant=plant, expected=expected)
        for name, plant, expected in MODELS
    ),
    *(
        Defect(name=name, area=Area.CONFIGURATION, gate=POLICY, plant=plant, expected=expected)
        for name, plant, expected in POLICIES
    ),
    *(
        Defect(name=name, area=Area.CONFIGURATION, gate=SETTINGS, plant=plant, expected=expected)
        for name, plant, expected in CONFIGURATION
    ),
    *(
        Defect(name=name, area=Area.PAYLOAD, gate=REQUEST, plant=plant, expected=expected)
        for name, plant, expected in REQUESTS
    ),
    *(
        Defect(name=name, area=Area.SERVICE, gate=LOAD, plant=plant, expected=expected)
        for name, plant, expected in SERVICE
    ),
    *(
        Defect(name=name, area=Area.WORKFLOW, gate=WORKFLOW, plant=plant, expected=expected)
        for name, plant, expected in WORKFLOWS
    ),
    *(
        Defect(name=name, area=Area.WORKFLOW, gate=gate, plant=plant, expected=expected)
        for name, gate, plant, expected in SHIPPING
    ),
]
