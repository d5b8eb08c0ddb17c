"""`ctcd init` on a strange table, and what it writes."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from errno import EBUSY
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.instance import INSTANCE

from ctcd.cli.app import run
from ctcd.contract.columns import Role
from ctcd.contract.instance import Instance, load_instance
from ctcd.contract.spec import Kind
from ctcd.drafts.check import problems
from ctcd.drafts.columns import read
from ctcd.drafts.draft import GROWTH, _valid, draft
from ctcd.drafts.policies import SLICED, Baselines, _floor
from ctcd.errors import DataRefused, UsageError
from ctcd.model.metrics import Scores
from ctcd.model.threshold import Threshold
from ctcd.promotion.policy import Disabled, Slices, load_policy
from ctcd.promotion.slices import cut
from ctcd.store.engine import connect
from ctcd.store.ingest import ingest
from ctcd.store.ingest_plan import make_plan
from ctcd.store.migrations import upgrade
from ctcd.store.sources import Source
from ctcd.training.split import split_by_group

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"


@pytest.fixture(scope="module")
def drafted(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Instance:
    """The instance that is drafted from the strange table."""
    folder = tmp_path_factory.mktemp("drafted") / "contracts"
    shutil.copy(PYPROJECT, folder.parent)  # which says how the migration is laid out
    assert run(["init", str(table), "--label", "Outcome", "--into", str(folder)]) == 0
    return load_instance(folder)


@pytest.mark.slow
def test_the_draft_has_every_part_and_no_problem(drafted: Instance) -> None:
    """All files of an instance are there, and they fit each other, the payload and the synthetic data."""
    assert drafted.contract.name == "returned_goods"
    assert problems(drafted) == ()
    files = {str(path.relative_to(INSTANCE.folder)) for path in INSTANCE.folder.rglob("*") if path.is_file()}
    needed = {
        name
        for name in files
        if not name.startswith(("examples/", "migrations/versions/v")) and "__pycache__" not in name
    }
    assert needed <= {str(path.relative_to(drafted.folder)) for path in drafted.folder.rglob("*")}
    assert [path.name for path in drafted.migrations.glob("v*.py")] == ["v0001_contract_1_0_0.py"]


@pytest.mark.slow
def test_the_draft_is_in_the_style_of_the_repository(drafted: Instance, tmp_path: Path) -> None:
    """The linter and the formatter accept a drafted instance as it is."""
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent))
    assert ruff
    copy = shutil.copytree(drafted.folder, tmp_path / "contracts", ignore=shutil.ignore_patterns("__pycache__"))
    for arguments in (["check"], ["format", "--diff"]):
        command = [ruff, *arguments, "--no-cache", "--config", str(PYPROJECT), str(copy)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own files
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_what_it_cannot_know_is_a_draft(drafted: Instance) -> None:
    """Each column has something to be confirmed, numbers their unit and bounds, and the whole its roles."""
    contract = drafted.contract
    drafts = dict(contract.drafts)
    assert set(drafts) == {
        "contract",
        *(column.name for column in (*contract.feature_columns, *contract.label_columns) if not column.filled),
    }
    assert "roles" in drafts["contract"]
    assert "unit, bounds" in drafts["weight kg"]
    assert "closed set" in drafts["class"]
    assert "role" in drafts["E-Mail"]
    (seen,) = [column for column in contract.model_inputs if column.name == "seen at"]
    assert (seen.kind, seen.unit) == (Kind.TIME, "ISO 8601 date and time")


@pytest.mark.slow
def test_no_row_of_the_data_is_repeated_as_an_example(drafted: Instance) -> None:
    """A column that may be personal has no example, and nothing that is written holds one of its values."""
    personal = {column.name: column.example for column in drafted.contract.personal}
    assert personal == dict.fromkeys(["unnamed_1", "E-Mail", "registered as", "empty"])
    for path in drafted.folder.rglob("*"):
        assert not path.is_file() or b"@example.org" not in path.read_bytes()


@pytest.mark.slow
def test_the_policy_is_measured(drafted: Instance, table: Path) -> None:
    """Floors lie between a trivial model and a regression; slices have enough rows of the holdout."""
    policy = load_policy(drafted)
    assert isinstance(policy.floors.macro_f1, float)
    assert 0.5 < policy.floors.macro_f1 < 1
    assert not any(isinstance(floor, Disabled) for floor in policy.floors.recall.values())
    assert isinstance(policy.slices, Slices)
    holdout = split_by_group(_valid(read(table)[0], drafted.contract)[0], drafted.contract, seed=42).holdout
    sizes = [np.bincount(sliced.place) for sliced in cut(holdout, policy.slices.by)]
    assert sizes
    assert all((rows >= policy.slices.min_rows).sum() > 1 for rows in sizes)
    assert policy.threshold == Threshold(positive="kept (new)", value=0.5)
    assert policy.binary
    assert isinstance(policy.binary.roc_auc, float)
    assert 0.5 < policy.binary.roc_auc < 1
    assert isinstance(policy.binary.average_precision, float)
    assert 0.4 < policy.binary.average_precision < 1


@pytest.mark.slow
def test_limits_are_where_the_policy_says_that_they_are(table: Path) -> None:
    """Halfway between a trivial model and a regression, half of its recall, and no more than chance above its error.

    They are measured on the holdout that a training with the same seed has.
    """
    found = draft(table, label="Outcome")
    policy, shares = tomllib.loads(found.files["promotion.toml"]), found.baselines
    trivial, regression = shares.majority, shares.logistic
    ece = min(0.4, max(0.08, regression.ece + 3 * shares.chance))
    expected = {
        "accuracy": (trivial.accuracy + regression.accuracy) / 2,
        "macro_f1": (0.5 + regression.macro_f1) / 2,
        "max_ece": ece,
        **{name: recall / 2 for name, recall in regression.recall.items()},
    }
    floors = policy["floors"]
    given = floors["recall"] | {name: floors[name] for name in ("accuracy", "macro_f1")} | policy["calibration"]
    assert given == {name: pytest.approx(value, abs=0.0051) for name, value in expected.items()}
    assert draft(table, label="Outcome", seed=7).baselines != shares


@pytest.mark.slow
def test_what_the_data_do_not_say_is_explained(drafted: Instance, tmp_path: Path) -> None:
    """The limits of speed and the number of iterations say why they are what they are, and that a person confirms them."""
    policy = drafted.promotion_policy.read_text()
    assert "both limits are the same in every draft: to be confirmed" in policy
    assert "speed of promotion.toml" in dict(drafted.contract.drafts)["contract"]
    assert "iterations = 2000\n" in drafted.training_profiles.read_text()
    numbers = np.round(np.random.default_rng(6).standard_normal((300, 21)), 2)
    classes = [f"class {rank // 30}" for rank in np.argsort(np.argsort(numbers[:, 0]))]
    wide = {f"v{place}": numbers[:, place] for place in range(21)} | {"y": classes}
    found = drafted_from(wide, tmp_path).training_profiles.read_text()
    assert "iterations = 500\n" in found
    assert "It is 500 instead of 2000" in found
    assert "here 10 and 21" in found


@pytest.mark.slow
def test_the_rows_it_was_drafted_from_are_ingested(drafted: Instance, table: Path, tmp_path: Path) -> None:
    """Only rows with malformed values are quarantined, and the contract allows twice as many of them."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    upgrade(url, drafted.migrations)
    engine = connect(url)
    report = ingest(engine, drafted.contract, table, chunk_rows=1_000)
    engine.dispose()
    (found,) = report.tables
    assert found.read == 600
    assert found.quarantined > 0.01 * 600  # as many as that are allowed by default
    assert drafted.contract.max_quarantine_share == round(2 * found.quarantined / 600, 2)
    assert set(found.reasons) == {"2nd reading is not a number"}


def init(table: Path, folder: Path, *more: str) -> int:
    return run(["init", str(table), "--label", "Outcome", "--into", str(folder), *more])


@pytest.mark.slow
def test_an_instance_is_never_overwritten_unasked(
    table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without --replace nothing is touched; with it, the version takes a major step and no file of the old one stays."""
    folder = tmp_path / "contracts"
    shutil.copytree(INSTANCE.folder, folder)
    before = (folder / "features.py").read_text()
    assert init(table, folder) == 2
    assert (
        "already has __init__.py, examples, features.py, lock, migrations, monitoring.toml, payload.py"
        in capfd.readouterr().err
    )
    assert (folder / "features.py").read_text() == before
    other = tmp_path / "other"
    (other / "examples").mkdir(parents=True)
    (other / "examples" / "mine.txt").write_text("mine")
    assert init(table, other) == 2
    assert "other: already has examples (--replace overwrites that" in capfd.readouterr().err
    assert (other / "examples" / "mine.txt").exists()
    (folder / "mine.txt").write_text("mine")
    locked = (folder / "lock" / "contract.json").read_text()
    (folder / "lock" / "contract.json").write_text("<<<<<<< ours")
    assert init(table, folder, "--replace") == 2
    assert "contract.json: has no version of a contract" in capfd.readouterr().err
    (folder / "lock" / "contract.json").write_text(locked)
    assert init(table, folder, "--replace", "--name", "parcels", "--json") == 0
    report: Any = json.loads(capfd.readouterr().out)
    assert report["name"] == "parcels"
    assert {each["name"]: each["role"] for each in report["columns"]}["E-Mail"] == "personal"
    contract = load_instance(folder).contract
    assert (contract.name, contract.version) == ("parcels", "2.0.0")
    assert (folder / "mine.txt").exists()
    assert not (folder / "examples").exists()
    assert len(list((folder / "migrations" / "versions").glob("v*.py"))) == 1


def test_a_part_on_a_disk_that_is_not_mounted_is_there(
    table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without --replace, a link that leads nowhere is not replaced either."""
    (tmp_path / "promotion.toml").symlink_to("nowhere")
    assert init(table, tmp_path) == 2
    assert "already has promotion.toml (--replace overwrites that" in capfd.readouterr().err


@pytest.mark.slow
def test_all_parts_stay_if_one_cannot_be_replaced(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Such as one that is mounted, which a test may not do; without that, links that lead nowhere are replaced, too."""
    folder, rename = tmp_path / "contracts", Path.rename
    shutil.copytree(INSTANCE.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.rmtree(folder / "examples")
    shutil.rmtree(folder / "lock")
    (folder / "lock").symlink_to("nowhere")
    (folder / "monitoring.toml").unlink()  # a new part, which does not stay

    def refused(path: Path, target: Path) -> Path:
        if path == folder / "training.toml":
            raise OSError(EBUSY, "Device or resource busy", str(path))
        return rename(path, target)

    def content() -> dict[str, str | None]:
        return {str(each): each.read_text() if each.is_file() else None for each in sorted(folder.rglob("*"))}

    before = content()
    monkeypatch.setattr(Path, "rename", refused)
    assert init(table, folder, "--replace") == 2
    assert "training.toml: Device or resource busy" in capfd.readouterr().err
    assert content() == before
    monkeypatch.setattr(Path, "rename", rename)
    assert init(table, folder, "--replace") == 0
    assert load_instance(folder).contract.name == "returned_goods"
    assert (folder / "lock" / "contract.json").is_file()


@pytest.mark.slow
def test_roles_that_are_named_are_taken(table: Path, tmp_path: Path) -> None:
    """Key, group and date of the command line are those of the contract."""
    folder = tmp_path / "contracts"
    assert init(table, folder, "--key", "unnamed_1", "--group", "E-Mail", "--date", "day") == 0
    contract = load_instance(folder).contract
    assert (contract.key.name, contract.group.name, contract.event_date.name) == ("unnamed_1", "E-Mail", "day")
    assert contract.group.kind is Kind.TEXT
    assert [column.name for column in contract.personal] == ["registered as", "empty"]
    assert contract.label.role is Role.LABEL


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--label", "nothing"], "there is no column 'nothing'"),
        (["--label", "weight kg"], "weight kg: has "),
        (["--label", "site"], "site: has 1 distinct value; a label has 2 to 100 classes"),
        (
            ["--label", "Outcome", "--key", "2nd reading"],
            "2nd reading: has missing or malformed values in ",
        ),
        (["--label", "Outcome", "--date", "class"], "class: does not hold dates such as 2025-01-31"),
        (["--label", "Outcome", "--key", "day", "--date", "day"], "day: cannot have two roles"),
        (
            ["--label", "Outcome", "--key", "part_count"],
            "part_count: is not unique, as a key must be: it repeats in 596 rows (first: row ",
        ),
        (
            ["--label", "Outcome", "--name", "x" * 41],
            f"csv: the name {'x' * 41!r} is not one of at most 40 small letters, digits and underscores (--name",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    table: Path, tmp_path: Path, arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A column that does not exist, or cannot have its role, is named with the rule, and nothing is written."""
    assert run(["init", str(table), "--into", str(tmp_path / "contracts"), *arguments]) == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_trivial_accuracy_is_that_of_all_rows_if_the_holdout_has_less(tmp_path: Path) -> None:
    """A model that always answers the most frequent class stays below the floor on other rows than the holdout, too."""
    random = np.random.default_rng(4)
    shop = np.repeat(np.arange(30), 50)
    rate = random.beta(0.5, 1.2, 30)[shop]
    late = random.random(len(shop)) < rate
    distance = (random.normal(size=len(shop)) + 2 * late).round(3)
    frame = pd.DataFrame({"shop": shop, "distance": distance, "delivery": np.where(late, "late", "on time")})
    frame.to_csv(tmp_path / "orders.csv", index=False)
    found = draft(tmp_path / "orders.csv", label="delivery", group="shop")
    share = float(1 - late.mean())
    assert found.baselines.majority.accuracy < share - 0.02
    floor = tomllib.loads(found.files["promotion.toml"])["floors"]["accuracy"]
    assert floor == pytest.approx((share + found.baselines.logistic.accuracy) / 2, abs=0.006)


def test_a_floor_is_above_a_trivial_model_after_rounding() -> None:
    """With many rows, a regression may be better by less than the second decimal shows, and not by chance."""
    trivial = Scores(rows=40_000, accuracy=0.7514, macro_f1=0.43, recall={}, log_loss=0.56, ece=0.0)
    found = Baselines(majority=trivial, logistic=replace(trivial, accuracy=0.7582))
    assert [_floor(0.7514, 0.7582, found), _floor(0.7, 0.8, found)] == ["0.755", "0.75"]


NO_DAY = (
    "day: has missing or malformed values in 1 row (first: row 3), which the event date may not have "
    "(correct these rows or leave them out)"
)
COPY = "order: is not unique, as a key must be: it repeats in 1 row (first: row 3) (leave out the copies"


@pytest.mark.parametrize(
    ("row", "roles", "message"),
    [
        ("A3,S1,2025-02-30", "--key order --date day", NO_DAY),
        ("A3,S1,", "--date day", NO_DAY),
        ("A2,S1,2025-01-02", "--key order", f"{COPY}, or give the column with --group in place of --key)"),
        (
            "A2,S1,2025-01-02",
            "--key order --group shop --date day",
            f"{COPY.replace('unique', 'unique together with shop and day')})",
        ),
    ],
)
def test_the_first_row_that_a_role_does_not_allow_is_named(
    tmp_path: Path, row: str, roles: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A row without a date, or a copy of a key, is named by its number together with what to do about it."""
    rows = [f"A{number},S1,2025-01-02,{number % 7},{'late' if number % 3 else 'no'}" for number in range(1, 61)]
    rows[2] = f"{row},3,no"
    data = tmp_path / "orders.csv"
    data.write_text("\n".join(["order,shop,day,items,delivery", *rows]) + "\n", encoding="utf-8")
    assert run(["init", str(data), "--label", "delivery", "--into", str(tmp_path / "contracts"), *roles.split()]) == 2
    assert message in capfd.readouterr().err


@pytest.mark.parametrize(
    ("column", "hint"),
    [
        ("row_number", "rename it in the file, or name it with --key"),
        ("Ingested_On", "rename it in the file, or name it with --date"),
    ],
)
def test_a_column_of_the_store_is_named_before_anything_is_drafted(column: str, hint: str, tmp_path: Path) -> None:
    """Whoever has a column of such a name learns which it is and what to do."""
    file = tmp_path / "data.csv"
    file.write_text(f"{column},y\n1,a\n2,b\n")
    with pytest.raises(UsageError) as raised:
        draft(file, label="y")
    assert (raised.value.where, raised.value.hint) == (column, hint)
    assert raised.value.what == f"the store adds a column named {column.lower()}"


def few_texts(folder: Path, *, longest: int = 2) -> Path:
    """Write a table whose columns have few texts, one of them lists whose entries another column counts."""
    random = np.random.default_rng(5)
    score, count = random.standard_normal(400), random.integers(0, longest + 1, 400)
    file = folder / "few.csv"
    pd.DataFrame(
        {
            "width": np.round(score, 2),
            "Id": 1_700_000_000_000_000_000 + 977 * np.arange(400),
            "site": [f"site {number}" for number in random.integers(0, 20, 400)],
            "Part Count": count,
            "parts": [",".join("abcdefghijklmnopqrst"[:each]) or "none" for each in count],
            "y": np.where(score + 0.5 * random.standard_normal(400) > 0, "kept", "sold"),
        }
    ).to_csv(file, index=False)
    return file


@pytest.mark.slow
@pytest.mark.parametrize(
    ("group", "label", "parts"),
    [
        ("site", "y", Kind.LIST),
        ("parts", "y", Kind.TEXT),
        ("Part Count", "y", Kind.CATEGORY),
        (None, "parts", Kind.CATEGORY),
    ],
)
def test_texts_and_lists_may_be_group_or_label(group: str | None, label: str, parts: Kind, tmp_path: Path) -> None:
    """A group has other values than those seen, so it is no closed set; a list is one only beside its counter.

    Numbers of 64 bits that number the rows are no feature, and as a key they are text.
    """
    found = draft(
        few_texts(tmp_path, longest=20 if group else 2), label=label, group=group, key="Id" if group == "site" else None
    )
    for name, text in found.files.items():
        (tmp_path / name).write_text(text)
    contract = load_instance(tmp_path).contract
    assert {each.name: each.kind for each in contract.declared}["parts"] is parts
    assert next(each for each in contract.declared if each.name == "Id").written is Kind.TEXT
    assert contract.key.name == ("Id" if group == "site" else "row_number")
    assert contract.label.name == label
    assert group is None or (contract.group.name, contract.group.categories) == (group, None)


@pytest.mark.slow
@pytest.mark.parametrize("role", ["key", "group"])
def test_text_that_a_spreadsheet_would_shorten_is_of_digits(role: str, tmp_path: Path) -> None:
    """Identities of 64 bits are text, and `1.7E+18`, into which a spreadsheet turns many of them, is refused as one."""
    given: dict[str, Any] = {role: "Id"}
    found = draft(few_texts(tmp_path), label="y", **given)
    for name, text in found.files.items():
        (tmp_path / name).write_text(text)
    contract = load_instance(tmp_path).contract
    column = next(each for each in contract.declared if each.name == "Id")
    assert (column.written, column.pattern, column.example) == (Kind.TEXT, "[0-9]+", "0" * 19)
    cells, _ = read(tmp_path / "few.csv")
    assert _valid(cells, contract)[1] == 0
    ids = cells["Id"].to_pylist()
    for text in ("1.7E+18", f"{ids[0]}.0", f"{ids[0]}.5"):
        shortened = cells.set_column(cells.column_names.index("Id"), "Id", [[text, *ids[1:]]])
        assert _valid(shortened, contract)[1] == 1


@pytest.mark.slow
def test_synthetic_data_that_cannot_reach_the_floors_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The draft says so where strengthening the signals did not help, and does not ask for lower floors of real data."""
    turns: list[object] = []

    def never(*reached: object) -> list[object]:
        turns.append(reached)
        return turns

    monkeypatch.setattr("ctcd.drafts.draft.below", never)
    monkeypatch.setattr("ctcd.drafts.draft.GROWTH", (2,))
    notes = draft(few_texts(tmp_path), label="y").notes
    assert len(turns) == 2
    assert "synthetic data do not reach the floors" in notes[-1]
    assert "lower" not in notes[-1]


@pytest.mark.slow
def test_a_draft_that_allows_more_quarantined_rows_than_usual_says_so(tmp_path: Path) -> None:
    """Its output names the limit, the usual one, and the rows that are the reason."""
    widths = ["?"] * 6 + [str(width) for width in range(194)]
    pd.DataFrame({**some(), "width": widths}).to_csv(tmp_path / "data.csv", index=False)
    (note,) = draft(tmp_path / "data.csv", label="y").notes
    assert note == ("max_quarantine_share is drafted as 0.06 instead of 0.02: 6 of 200 rows break the drafted contract")


def drafted_from(columns: Mapping[str, Any], folder: Path, **options: Any) -> Instance:
    """Write a table of these columns, whose label is `y`, and load what is drafted from it."""
    pd.DataFrame(columns).to_csv(folder / "data.csv", index=False)
    for name, text in draft(folder / "data.csv", label="y", **options).files.items():
        (folder / name).write_text(text)
    return load_instance(folder)


def some(rows: int = 200) -> dict[str, Any]:
    """Return a number and a label that it predicts in part."""
    random = np.random.default_rng(4)
    score = random.standard_normal(rows)
    label = np.where(score + 0.5 * random.standard_normal(rows) > 0, "yes", "no")
    return {"score": np.round(score, 2), "y": label}


@pytest.mark.slow
def test_synthetic_data_of_many_classes_reach_the_floors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each column tells only some of ten classes apart, the last turn makes synthetic data clear enough."""
    monkeypatch.setattr("ctcd.drafts.draft.GROWTH", GROWTH[-1:])
    random = np.random.default_rng(5)
    label = random.integers(0, 10, 1_000)
    columns = {
        f"p{place}": np.round(random.standard_normal(1_000) + 1.5 * (label == place % 10), 2) for place in range(20)
    }
    pd.DataFrame({**columns, "y": label}).to_csv(tmp_path / "data.csv", index=False)
    assert draft(tmp_path / "data.csv", label="y").notes == ()


@pytest.mark.slow
def test_a_class_that_no_baseline_finds_has_no_floor(tmp_path: Path) -> None:
    """Neither real nor synthetic data give reason for a floor of a rare class about which the columns say nothing."""
    columns = some(600)
    columns["y"] = np.where(np.arange(600) % 40 == 0, "rare", columns["y"])
    policy = load_policy(drafted_from(columns, tmp_path))
    floors = policy.floors.recall
    assert floors.pop("rare") == Disabled(
        disabled=True, reason="a regression reaches 0.00: nothing says what a model can"
    )
    assert floors
    assert all(isinstance(floor, float) for floor in floors.values())


@pytest.mark.slow
def test_rows_without_a_label_are_no_reason_to_refuse(tmp_path: Path) -> None:
    """They are in many tables; the draft's check leaves them out, as training does."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"number": range(400), "size": rng.normal(size=400).round(3)})
    rows["bad"] = np.where(rows["size"] > 0, "yes", "no")
    rows.loc[::20, "bad"] = None
    rows.to_csv(tmp_path / "gaps.csv", index=False)
    shutil.copy(PYPROJECT, tmp_path)
    assert run(["init", str(tmp_path / "gaps.csv"), "--label", "bad", "--into", str(tmp_path / "contracts")]) == 0
    found = load_instance(tmp_path / "contracts")
    assert found.contract.label.nullable
    assert problems(found) == ()


@pytest.mark.slow
def test_truths_and_two_numbers_are_sliced(tmp_path: Path) -> None:
    """A protected column that is true or false, or 0 or 1, is cut into its two groups, however rare one is.

    Other columns are cut only if there is room for more.
    """
    random = np.random.default_rng(6)
    columns = {
        **some(1_000),
        **{f"length_{number}": np.round(random.standard_normal(1_000), 2) for number in range(3)},
        "sex": (random.random(1_000) < 0.25).astype(int),
        "foreign": np.where(random.random(1_000) < 0.3, "True", "False"),
    }
    instance = drafted_from(columns, tmp_path)
    policy = load_policy(instance)
    assert isinstance(policy.slices, Slices)
    assert (policy.slices.by["sex"], policy.slices.by["foreign"]) == ([1], "each value")
    assert len(policy.slices.by) == SLICED


@pytest.mark.slow
def test_a_table_most_of_whose_rows_would_be_quarantined_is_refused(tmp_path: Path) -> None:
    """Some malformed values in each of many columns may leave hardly a valid row: columns and text are named."""
    random = np.random.default_rng(7)
    malformed = {
        f"c{place}": np.where(random.random(200) < 0.09, "?", random.integers(1, 50, 200).astype(str))
        for place in range(12)
    }
    with pytest.raises(DataRefused) as raised:
        drafted_from({**some(), **malformed}, tmp_path)
    assert re.fullmatch(
        r"1\d\d of 200 rows would be quarantined, because of c\d+, c\d+, c\d+ and \d other columns", raised.value.what
    )
    assert raised.value.hint.startswith("empty the cells that mean a missing value, such as with pandas.read_csv(")


@pytest.mark.slow
def test_names_and_values_that_a_draft_can_do_without_are_no_reason_to_refuse(tmp_path: Path) -> None:
    """The date of a snapshot avoids a column's name; texts with empty entries are no lists, a reserved category is open."""
    counts = np.tile([2, 3, 0, 1], 50)
    columns = {
        **some(),
        "base_dt": "2020-01-01",
        "BASE_DT_2": counts,
        "parts": np.tile(["a,b", "a,,b", "none", "a"], 50),
        "state": np.tile(["(missing)", "b"], 100),
    }
    contract = drafted_from(columns, tmp_path).contract
    assert contract.snapshot_date == "base_dt_3"
    found = {each.name: each for each in contract.model_inputs}
    assert (found["parts"].list_of, found["state"].categories) == (None, None)
    assert found["base_dt"].kind is Kind.DATE


@pytest.mark.slow
def test_a_header_of_any_characters_is_drafted(tmp_path: Path) -> None:
    """What a database's client would misread is written out in the contract's name; the file stays as it is."""
    columns = some()
    frame = pd.DataFrame(
        {"Discount %": columns["score"], "ok?": range(200), "`x`\t": range(200), "bad %": columns["y"]}
    )
    frame.to_csv(tmp_path / "data.csv", index=False)
    for name, text in draft(tmp_path / "data.csv", label="bad %").files.items():
        (tmp_path / name).write_text(text)
    contract = load_instance(tmp_path).contract
    assert contract.label.name == "bad percent"
    assert {each.name for each in contract.declared} >= {"Discount percent", "ok_", "_x_"}
    plan = make_plan(Source(contract.features_table, tmp_path / "data.csv"), contract)
    assert {column.name for column in plan.columns} == {"Discount percent", "ok_", "_x_", "bad percent"}


@pytest.mark.parametrize(
    ("column", "options", "message"),
    [
        ("x" * 65, {}, "a name has 1 to 64 characters"),
        ("SCORE", {}, "score: two columns have this name"),
        ("other", {"name": "Z" * 41}, "is not one of at most 40 small letters, digits and underscores"),
    ],
)
def test_the_hint_is_about_what_is_refused(column: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    """A column has to be renamed in the file, and only a name of the contract is given by an option."""
    with pytest.raises(UsageError) as raised:
        drafted_from({**some(), column: range(200)}, tmp_path, **options)
    assert message in raised.value.what
    assert ("--name" in raised.value.hint) == bool(options)
    assert ("in the file" in raised.value.hint) != bool(options)


@pytest.mark.parametrize("name", ["plain.txt", "plain.tsv", "plain.xlsx"])
def test_a_file_that_ingest_would_refuse_is_refused(name: str, tmp_path: Path) -> None:
    """The draft is of a file that the next step can read."""
    (tmp_path / name).write_text("a,y\n1,b\n")
    with pytest.raises(
        UsageError, match=r"plain\.\w+: the name of a table ends in \.csv, \.csv\.gz or \.parquet"
    ) as raised:
        draft(tmp_path / name, label="y")
    assert raised.value.hint.startswith("export it as CSV or Parquet")


@pytest.mark.slow
@pytest.mark.parametrize(("step", "maximum"), [(3, 2**31 - 1), (3_000_000_007, 2**53)], ids=["of 32 bits", "larger"])
def test_a_key_may_grow(step: int, maximum: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its bounds are those of the type, not those of the data, and are shown as they are drafted; so is what comes next."""
    file, folder = tmp_path / "data.csv", tmp_path / "my contracts"
    pd.DataFrame({"n": 100 + step * np.arange(200), **some()}).to_csv(file, index=False)
    assert run(["init", str(file), "--label", "y", "--key", "n", "--into", str(folder)]) == 0
    shown = capfd.readouterr().out
    contract = load_instance(folder).contract
    assert (contract.key.minimum, contract.key.maximum) == (0, maximum)
    assert f" 0 to {maximum} " in shown
    for command in (".venv/bin/ctcd contract check", "make demo", f"make demo DATA={file}"):
        assert f"    CTCD_CONTRACTS='{folder}' {command}\n" in shown


@pytest.mark.slow
def test_the_name_of_another_instance_is_refused_before_anything_is_written(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A second instance beside the first needs a name of its own; a lock that cannot be read is named."""
    pd.DataFrame(some()).to_csv(tmp_path / "data.csv", index=False)
    first = tmp_path / "contracts" / "lock" / "contract.json"
    first.parent.mkdir(parents=True)
    arguments = ["init", str(tmp_path / "data.csv"), "--label", "y", "--into", str(tmp_path / "contracts_second")]
    for lock, message in (
        (
            '{"name": "data"}',
            "features.py, the name: contracts has the name 'data', too: give each instance its own (--name",
        ),
        ("<<<<<<< ours", "contract.json: has no name of a contract (restore or delete it)"),
    ):
        first.write_text(lock)
        assert run(arguments) == 2
        error = capfd.readouterr().err
        assert message in error
        assert error.count("\n") == 1
        assert sorted(path.name for path in tmp_path.iterdir()) == ["contracts", "data.csv"]
