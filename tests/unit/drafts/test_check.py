"""`ctcd contract check`: what is wrong is found in seconds, and named."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import create_model
from support.instance import INSTANCE
from support.small_contracts import Small, write_instance

from ctcd.cli.app import run
from ctcd.contract.instance import Instance, load_instance
from ctcd.drafts.check import problems

NUMBER = ("float", "minimum=0, maximum=1, example=0.5, simulate=Simulate(quantiles=(0, 1), signal=0.5)")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the tests' instance, to be spoiled."""
    return shutil.copytree(INSTANCE.folder, tmp_path / "contracts", ignore=shutil.ignore_patterns("__pycache__"))


def found(folder: Path) -> list[tuple[str, str]]:
    return [(each.where, each.what) for each in problems(load_instance(folder))]


def in_loops(seconds: float) -> float:
    """Return processor time in multiples of what a loop of two million steps takes on this machine, now."""
    began, total = time.process_time(), 0
    for each in range(2_000_000):
        total += each
    return seconds / (time.process_time() - began)


@pytest.mark.slow
def test_a_sound_instance_has_no_problems_and_is_checked_in_seconds() -> None:
    """The tests' instance passes within 20 times the processor time of a loop; that was 2 to 3 seconds when measured."""
    began = time.process_time()
    assert problems(INSTANCE) == ()
    assert in_loops(time.process_time() - began) < 20


EDITS = {
    "classes of another data set": ("promotion.toml", 'failing = 0.55', 'broken = 0.55', "floors.recall", "no floor for class failing"),
    "slices by a column of another data set": ("promotion.toml", 'maker = "each value"', 'brand = "each value"', "slices.by", "brand is not an input"),
    "a number cut by each value": ("promotion.toml", "hours = [2000, 4000, 7000]", 'hours = "each value"', "slices.by", "hours is a number"),
    "floor that synthetic data cannot reach": ("promotion.toml", "worn = 0.60", "worn = 0.999", "recall of worn", "the floor of promotion.toml is 1.00"),
    "unknown parameter of the training": ("training.toml", "rsm = 1.0", "rms = 1.0", "training.toml", "rms"),
    "tolerance out of range": ("monitoring.toml", "mean = ", "mean = 1", "monitoring.toml", "mean: "),
    "sample in which no drift shows": ("monitoring.toml", "false_alarms_per_year = 2.0", "false_alarms_per_year = 1e-60", "drift.smallest_sample", "rows show only a PSI above"),
    "word in place of a time": ("service.toml", "p95_ms = 25.0", 'p95_ms = "fast"', "service.toml", "shapes.reference.limits.p95_ms"),
    "shape that CI runs": ("service.toml", "[shapes.smoke", "[shapes.smoky", "load shape", "'smoke' is not one of reference, "),
    "profile that the DAG trains": ("training.toml", "[baseline", "[based", "training.toml", "there is no profile 'baseline'"),
    "share that no class can keep": ("monitoring.toml", "min_class_share = 0.02", "min_class_share = 0.3", "synthetic data, failing", "min_class_share of monitoring.toml is 0.3"),
    "switch in the place of the slices' columns": ("promotion.toml", "[slices.by]", 'by = { disabled = true, reason = "no slices yet" }\n[unused]', "promotion.toml", "slices.by.disabled: Input should be a valid list"),
    "neither word nor edges": ("promotion.toml", 'maker = "each value"', 'maker = "each"', "promotion.toml", "slices.by.maker: Input should be 'each value'"),
    "example that is out of bounds": ("features.py", "example=20.5", "example=2000.5", "examples", "power"),
    "synthetic data out of bounds": ("features.py", "quantiles=(0.5, 3, 6, 11, 34)", "quantiles=(0.5, 3, 6, 11, 340)", "synthetic data, vibration", "is above 100 in "),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", EDITS)
def test_what_does_not_fit_is_named(name: str, copy: Path) -> None:
    """Each defect is found before anything is trained, with the place and the rule."""
    file, old, new, where, what = EDITS[name]
    text = (copy / file).read_text(encoding="utf-8")
    assert old in text
    (copy / file).write_text(text.replace(old, new), encoding="utf-8")
    assert any(where in place and what in rule for place, rule in found(copy)), found(copy)


@pytest.mark.slow
def test_numbers_of_another_size_are_checked_as_ingest_does(tmp_path: Path) -> None:
    """A type of 32 bits is one of whole numbers; values that it cannot hold are named."""
    label = ("str", 'role=Role.LABEL, categories=("no", "yes"), example="no", simulate=Simulate(signal=0.9)')
    for kind, wrong in (("pd.Int32Dtype", []), ("pd.Int8Dtype", ["synthetic data, x"])):
        number = (kind, "minimum=0, maximum=900, example=1, simulate=Simulate(quantiles=(0, 900), signal=0.9)")
        small = Small(name="sized", columns={"x": number, "y": label}, classes=("no", "yes"))
        assert [each.where for each in problems(write_instance(small, tmp_path / kind))] == wrong


def test_a_payload_that_refuses_a_category_is_named() -> None:
    """Every category, entry and bound of the contract has to pass the payload of the API."""
    other = load_instance(INSTANCE.folder)
    narrow: Any = type("Row", (other.payload.row,), {})
    original = narrow.model_validate_json

    def refusing(text: str) -> object:
        return original(text.replace('"night"', '"never"').replace('"oil pump"', '"never"'))

    narrow.model_validate_json = refusing
    payload = type(other.payload)(**{**vars(other.payload), "row": narrow})
    places = [each.where for each in problems(Instance(folder=other.folder, contract=other.contract, payload=payload))]
    assert places == ["payload, parts", "payload, shift"]


def test_a_payload_that_asks_for_more_than_the_contract_is_named() -> None:
    """A row of the contract's columns has to pass the payload."""
    other = load_instance(INSTANCE.folder)
    row: Any = create_model("Row", __base__=other.payload.row, colour=(str, "red"), weight=(float, ...))
    example = {**row.model_json_schema()["examples"][0], "weight": 1.0}
    row.model_config["json_schema_extra"] = {"examples": [example]}
    payload = type(other.payload)(**{**vars(other.payload), "row": row})
    [problem] = problems(Instance(folder=other.folder, contract=other.contract, payload=payload))
    assert problem.what == "the payload refuses them: weight: Field required"


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('"humidity": null', '"humidity": "dry"', "payload, humidity"),
        ('"hours": 20000', '"hours": -1', "payload, hours"),
        ('"hours": 1,', '"hours": -1,', "payload, hours"),
    ],
    ids=["missing value", "highest value", "lowest value"],
)
def test_a_payload_that_refuses_what_a_column_may_be_is_named(old: str, new: str, place: str) -> None:
    """A missing value and both bounds are asked of it, beside the categories."""
    other = load_instance(INSTANCE.folder)
    narrow: Any = type("Row", (other.payload.row,), {})
    original, met = narrow.model_validate_json, list[bool]()

    def refusing(text: str) -> object:
        met.append(old in text)
        return original(text.replace(old, new))

    narrow.model_validate_json = refusing
    payload = type(other.payload)(**{**vars(other.payload), "row": narrow})
    places = [each.where for each in problems(Instance(folder=other.folder, contract=other.contract, payload=payload))]
    assert (any(met), places) == (True, [place])


def test_traffic_that_does_not_fit_is_named(copy: Path) -> None:
    """A condition over a column that requests do not have would stop the service, and not before it starts."""
    route = 'default = "champion"\n\n[[route]]\nwhen = "halts > 5"\nalias = "challenger"\n'
    (copy / "traffic.toml").write_text(route, encoding="utf-8")
    [(where, what)] = found(copy)
    assert where == "traffic.toml"
    assert what.startswith("route 1, when: 'halts' is not a column of requests, these are: ")


def test_all_that_is_wrong_with_a_policy_is_listed(copy: Path) -> None:
    """Each profile, each load shape and each condition, not only the first of them."""
    routes = [f'[[route]]\nwhen = "{name} > 5"\nalias = "challenger"\n' for name in ("halts", "hours", "stop")]
    (copy / "traffic.toml").write_text("\n".join(['default = "champion"', *routes]), encoding="utf-8")
    for file, old in (("training.toml", "[f"), ("service.toml", "[shapes.")):
        text = (copy / file).read_text(encoding="utf-8")
        (copy / file).write_text(text.replace(old, f"{old}our_"), encoding="utf-8")
    *others, (_, conditions) = found(copy)
    assert [what.partition(" is not one of ")[0] for _, what in others] == [
        *("there is no profile 'fast'", "there is no profile 'full'", "'reference'", "'smoke'")
    ]
    assert conditions.startswith("route 1, when: 'halts' is not")
    assert "; route 3, when: 'stop' is not" in conditions
    assert "route 2" not in conditions


@pytest.mark.slow
def test_the_largest_contract_is_checked_in_seconds(tmp_path: Path) -> None:
    """200 columns and 100 classes take at most 160 times the processor time of a loop; that was 108 when measured."""
    label = ("int", "role=Role.LABEL, categories=tuple(range(100)), example=0, simulate=Simulate(signal=0.9)")
    columns = {**{f"x{place}": NUMBER for place in range(200)}, "y": label}
    small = Small(name="large", columns=columns, classes=tuple(map(str, range(100))))
    instance = write_instance(small, tmp_path / "contracts")
    began = time.process_time()
    problems(instance)
    assert in_loops(time.process_time() - began) < 160


@pytest.mark.slow
def test_many_categories_are_checked_in_seconds(tmp_path: Path) -> None:
    """200 columns of 100 categories each take at most 50 times the processor time of a loop; that was 32 when measured."""
    label = ("str", 'role=Role.LABEL, categories=("no", "yes"), example="no", simulate=Simulate(signal=0.9)')
    texts = tuple(f"c{place}" for place in range(100))
    column = ("str", f'categories={texts}, example="c0", simulate=Simulate(signal=0.5)')
    columns = {**{f"x{place}": column for place in range(200)}, "y": label}
    began = time.process_time()
    assert problems(write_instance(Small(name="texts", columns=columns, classes=("no", "yes")), tmp_path)) == ()
    assert in_loops(time.process_time() - began) < 50


@pytest.mark.slow
def test_a_key_that_no_index_can_hold_is_named(tmp_path: Path) -> None:
    """A text of more characters than MariaDB's index takes may not be a key; one character less may."""
    label = ("str", 'role=Role.LABEL, categories=("no", "yes"), example="no", simulate=Simulate(signal=0.9)')
    for length, wrong in ((640, []), (641, ["table long_batch_scores"])):
        key = ("str", f'role=Role.KEY, max_length={length}, example="row-1"')
        small = Small(name="long", columns={"id": key, "x": NUMBER, "y": label}, classes=("no", "yes"))
        found = problems(write_instance(small, tmp_path / str(length)))
        assert [each.where for each in found] == wrong
        assert all("id" in each.what and "3,076 bytes" in each.what for each in found)


@pytest.mark.slow
def test_the_name_of_another_instance_is_refused(copy: Path) -> None:
    """Two instances with one name would share models, images and deployments; a folder that is no instance may have it."""
    shutil.copytree(copy, copy.with_name("kept"))
    assert found(copy) == []
    shutil.copytree(copy, copy.with_name("contracts_second"))
    for folder, other in ((copy, "contracts_second"), (copy.with_name("contracts_second"), "contracts")):
        [(where, what)] = found(folder)
        assert where == "features.py, the name"
        assert what == f"{other} has the name 'machine_condition', too: give each instance its own"
    (copy / "lock" / "contract.json").write_text("[]", encoding="utf-8")
    [(where, what)] = found(copy.with_name("contracts_second"))
    assert (where, what) == (str(copy / "lock" / "contract.json"), "has no name of a contract")


@pytest.mark.slow
def test_the_command_lists_drafts_and_problems(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Drafts are listed and are no error; a problem ends in exit code 2 and stops `contract lock` before it writes."""
    monkeypatch.setenv("CTCD_CONTRACTS", str(copy))
    features = copy / "features.py"
    text = features.read_text(encoding="utf-8").replace('unit="mm/s",', 'unit="mm/s",\n        draft="bounds",')
    features.write_text(text, encoding="utf-8")
    assert run(["contract", "check", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["drafts"] == {"vibration": "bounds"}
    broken = shutil.copytree(copy, copy.with_name("broken"))
    (broken / "promotion.toml").write_text("", encoding="utf-8")
    shutil.rmtree(broken / "lock")
    monkeypatch.setenv("CTCD_CONTRACTS", str(broken))
    for command in ("check", "lock"):
        assert run(["contract", command]) == 2
        assert "promotion.toml: floors: Field required" in capfd.readouterr().err
    assert not (broken / "lock").exists()
    off = "one of these may be switched off with { disabled = true"
    assert run(["contract", "lock"]) == 2
    assert off in capfd.readouterr().err
    assert run(["contract", "check", "--json"]) == 2
    assert off in json.loads(capfd.readouterr().out)["problems"][0]["hint"]
    assert run(["contract", "check", "--json"]) == 2
    assert json.loads(capfd.readouterr().out)["drafts"] == {"vibration": "bounds"}
