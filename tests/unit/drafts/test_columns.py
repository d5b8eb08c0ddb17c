import builtins
import runpy
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ctcd.contract.columns import Role
from ctcd.contract.spec import Kind
from ctcd.drafts.columns import Found, contract_names, examine, margins, note_leaks, read
from ctcd.drafts.features import Identity, features_source
from ctcd.drafts.policies import toml_key
from ctcd.drafts.signals import measure
from ctcd.errors import DataRefused, UsageError


@pytest.fixture(scope="module")
def found(table: Path) -> dict[str, Found]:
    """What is found about each column of the strange table."""
    cells, complete = read(table)
    assert complete
    columns = examine(cells, contract_names(cells.column_names))
    note_leaks([each for each in columns if each.source != "Outcome"], cells["Outcome"].to_pandas())
    return {each.source: each for each in columns}


def test_the_kind_of_each_column_is_found(found: dict[str, Found]) -> None:
    """Numbers stay numbers despite malformed ones; lists need a column that counts them; booleans are no categories."""
    assert {name: each.kind for name, each in found.items()} == {
        "unnamed_1": Kind.INTEGER,
        "Größe [cm]": Kind.NUMBER,
        "class": Kind.CATEGORY,
        "index": Kind.INTEGER,
        "weight kg": Kind.NUMBER,
        "weight lb": Kind.NUMBER,
        "2nd reading": Kind.INTEGER,
        "E-Mail": Kind.CATEGORY,
        "parts": Kind.LIST,
        "part_count": Kind.INTEGER,
        "insured": Kind.BOOLEAN,
        "day": Kind.DATE,
        "seen at": Kind.TIME,
        "registered as": Kind.INTEGER,
        "site": Kind.CATEGORY,
        "note": Kind.CATEGORY,
        "empty": Kind.CATEGORY,
        "verdict": Kind.INTEGER,
        "Outcome": Kind.CATEGORY,
    }
    parts = found["parts"].list_of
    assert parts is not None
    assert (parts.items, parts.empty, parts.counted_by, parts.separator) == (
        ("bolt", "cog (small)", "nut"),
        "none",
        "part_count",
        ";",
    )


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("unnamed_1", "numbers the rows"),
        ("E-Mail", "looks personal"),
        ("registered as", "long numbers, almost none of them twice"),
        ("site", "constant"),
        ("empty", "no value at all"),
        ("weight lb", "says the same as weight kg"),
        ("verdict", "100.0% of the labels alone"),
        ("2nd reading", "whose value is no integer ('?')"),
    ],
)
def test_what_looks_suspicious_is_noted(found: dict[str, Found], column: str, words: str) -> None:
    """A column that may be personal, useless, a copy or a leak of the label is noted, and so are malformed values."""
    assert any(words in note for note in found[column].notes), found[column].notes


def test_numbers_of_any_size_are_looked_at_for_leaks() -> None:
    """A leak is found among numbers beyond single precision, too, in which the trees think."""
    random = np.random.default_rng(1)
    leak = random.random(400)
    cells = pa.table(
        {
            "large": pa.array([str(1e39 * each**9) for each in leak]),
            "close": pa.array([str(1e9 + each) for each in leak]),
        }
    )
    found = examine(cells, {"large": "large", "close": "close"})
    note_leaks(found, pd.Series(np.where(leak > 0.5, "a", "b"), dtype="str"))
    assert all("of the labels alone" in each.notes[-1] for each in found)


@pytest.mark.slow
def test_a_leak_need_not_be_perfect() -> None:
    """What says 99 of 100 labels is noted, since a few rows may have been corrected later; what says 95 may be a good feature."""
    random = np.random.default_rng(1)
    truth = random.random(4_000) < 0.5
    said = {name: truth ^ (random.random(4_000) < wrong) for name, wrong in (("late", 0.01), ("good", 0.05))}
    cells = pa.table({name: pa.array(np.where(each, "x", "y")) for name, each in said.items()})
    found = examine(cells, {name: name for name in said})
    note_leaks(found, pd.Series(np.where(truth, "a", "b"), dtype="str"))
    noted = {each.source for each in found if any("of the labels alone" in note for note in each.notes)}
    assert noted == {"late"}


def test_large_amounts_are_no_numbers_of_persons() -> None:
    """Amounts differ in nearly every row too, but have many lengths: they stay features."""
    random = np.random.default_rng(1)
    amounts = np.exp(random.normal(20, 2, 500)).astype("int64")
    cells = pa.table({"amount": pa.array(map(str, amounts))})
    (each,) = examine(cells, {"amount": "amount"})
    assert (each.role, each.notes) == (Role.FEATURE, [])


def test_short_numbers_that_differ_in_nearly_every_row_are_a_warning() -> None:
    """Six digits may be a person's number or an amount: the column stays a feature, with a note; four digits are neither."""
    random = np.random.default_rng(1)
    cells = pa.table(
        {
            name: pa.array(map(str, random.permutation(high)[:500] + high))
            for name, high in (("badge", 100_000), ("amount", 1_000))
        }
    )
    badge, amount = examine(cells, {"badge": "badge", "amount": "amount"})
    assert (badge.role, amount.role, amount.notes) == (Role.FEATURE, Role.FEATURE, [])
    assert "almost none of them twice" in badge.notes[0]
    assert "if they are no amounts" in badge.notes[0]


def test_ordinary_columns_are_not_suspected(found: dict[str, Found]) -> None:
    """No note is made of columns that only predict the label well, or have few values."""
    assert [found[name].notes for name in ("Größe [cm]", "class", "index", "weight kg", "insured", "Outcome")] == [
        []
    ] * 6


def test_what_identifies_a_row_is_kept_out_of_the_model(found: dict[str, Found]) -> None:
    """Row numbers, addresses and columns without values are no features, unless a person says so."""
    assert {name for name, each in found.items() if each.role is not Role.FEATURE} == {
        "unnamed_1",
        "E-Mail",
        "registered as",
        "empty",
    }


def test_every_column_has_a_name_that_python_and_the_libraries_leave_free() -> None:
    """Names are distinct identifiers in ASCII, without those that a data model or the draft itself uses."""
    sources = [
        "a b",
        "a_b",
        "class",
        "2nd",
        "größe",
        "index",
        "json",
        "model_config",
        "base_dt",
        "column",
        "",
        "é",
        "日",
    ]
    names = contract_names(sources)
    assert len(set(names.values())) == len(sources)
    assert all(name.isidentifier() and name.isascii() and name.islower() for name in names.values())
    assert names["a b"] == "a_b"
    assert names["a_b"] == "a_b_2"
    assert not {"class", "index", "json", "model_config", "base_dt", "column"} & set(names.values())


@pytest.mark.parametrize(
    ("lowest", "highest", "bounds"),
    [
        (11.03, 14.83, (7.0, 19.0)),
        (0.2, 5.0, (0.0, 10.0)),
        (-3.0, 5.0, (-11.0, 13.0)),
        (-5.0, -0.2, (-10.0, 0.0)),
        (7.0, 7.0, (0.0, 14.0)),
        (0.0, 0.0, (0.0, 1.0)),
        (0.000012, 0.000031, (0.0, 0.00005)),
        (1e12, 3e12, (0.0, 5e12)),
    ],
)
def test_bounds_leave_a_margin_and_keep_the_sign(lowest: float, highest: float, bounds: tuple[float, float]) -> None:
    """The range is widened by itself on both sides, not across zero, and rounded outwards."""
    assert margins(lowest, highest) == pytest.approx(bounds)


def test_a_row_with_too_many_fields_is_named(tmp_path: Path) -> None:
    """A file that is no table with commas is refused with the line."""
    file = tmp_path / "bad.csv"
    file.write_text("a,b\n1,2\n1,2,3\n")
    with pytest.raises(DataRefused, match="line 3 has 3 fields, the header 2"):
        read(file)
    file.write_text("a,b\n")
    with pytest.raises(DataRefused, match="no rows"):
        read(file)


@pytest.mark.parametrize(("separator", "named"), [(";", "';'"), ("\t", r"'\t'"), ("|", "'|'")])
def test_a_file_with_another_separator_is_named(separator: str, named: str, tmp_path: Path) -> None:
    """A header without a comma that has another separator is refused with it, before its decimal commas are counted."""
    file = tmp_path / "other.csv"
    file.write_text("alcohol;malic acid;target\n14,23;1,71;a\n".replace(";", separator))
    with pytest.raises(DataRefused) as raised:
        read(file, "target")
    assert raised.value.what == f"its fields are separated by {named}, not by commas"
    assert f"pandas.read_csv(FILE, sep={named}, dtype=str).to_csv(NEW, index=False)" in raised.value.hint


def test_a_column_that_looks_personal_is_noted_once() -> None:
    """Numbers almost none of which occurs twice, in a column that has the role personal, are no reason to give it that role."""
    random = np.random.default_rng(1)
    for digits in (5, 9):
        zips = random.permutation(89_999)[:500] + 10 ** (digits - 1)
        assert examined({"zip": [str(each) for each in zips]})["zip"].notes == [
            "looks personal: stored apart and kept out of the model"
        ]


def test_a_column_that_may_be_protected_is_to_be_decided() -> None:
    """The draft of a feature whose name is that of a protected characteristic asks about it; one kept out of the model does not."""
    found = examined(
        {"age": [str(20 + number % 40) for number in range(400)], "race": ["a", "b"] * 200, "width": ["1", "2"] * 200}
    )
    found["Outcome"] = examined({"Outcome": ["sold", "kept"] * 200})["Outcome"]
    found["Outcome"].role = Role.LABEL
    source = features_source(Identity(name="people", version="1.0.0", quarantine=0.02), found.values(), {})
    drafts = [line.strip() for line in source.splitlines() if line.strip().startswith("draft=")]
    assert drafts[:3] == [
        'draft="meaning, protected?, unit, bounds (20 to 59 in the data)",',
        'draft="meaning, protected?, closed set of categories",',
        'draft="meaning, unit, bounds (1 to 2 in the data)",',
    ]


def test_a_large_file_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are taken evenly from all of it, so that no class at its end is unknown; one without such a row is refused."""
    monkeypatch.setattr("ctcd.drafts.columns.MAX_ROWS", 100)
    monkeypatch.setattr("ctcd.drafts.columns.CHUNK", 70)
    labels = ["a"] * 500 + ["b"] * 90 + ["c"] * 40
    file = tmp_path / "sorted.csv"
    pd.DataFrame({"n": range(1, 631), "y": labels}).to_csv(file, index=False)
    cells, complete = read(file, "y")
    assert not complete
    assert cells["n"].to_pylist() == [str(number) for number in range(1, 631, 8)]
    assert set(cells["y"].to_pylist()) == {"a", "b", "c"}
    (number, _) = examine(cells, contract_names(cells.column_names))
    assert "numbers the rows" in number.notes[0]
    pd.DataFrame({"n": range(1, 632), "y": [*labels[:1], " rare ", *labels[1:]]}).to_csv(file, index=False)
    with pytest.raises(
        DataRefused, match="y: the class rare has too few of the 631 rows to be among the 79 that are read"
    ):
        read(file, "y")


def test_a_text_that_rarely_repeats_is_an_open_set() -> None:
    """A category is closed only if each value was seen often; others may then come."""
    few = pa.table({"town": pa.array([f"town {number % 40}" for number in range(400)])})
    (town,) = examine(few, contract_names(["town"]))
    assert town.categories is None
    assert town.pattern
    assert town.max_length == 64


def examined(columns: dict[str, list[str]]) -> dict[str, Found]:
    return {each.source: each for each in examine(pa.table(columns), contract_names(columns))}


def test_numbers_and_dates_of_persons_are_no_features_and_no_value_is_shown() -> None:
    """A column that looks personal by its name is kept out whatever its kind, and a note holds no value of any column."""
    days = [f"19{60 + number % 40}-01-{1 + number % 28:02}" for number in range(100)]
    found = examined(
        {
            "Phone": [*(str(5_550_000 + 7 * (number % 50)) for number in range(99)), "555-SECRET"],
            "birthDate": days,
            "dob": [*days[1:], "the SECRET day"],
            "zip": [str(10_000 + number % 60) for number in range(100)],
            "number of insurance": [f"123-45-{6_000 + number % 20}" for number in range(100)],
            "width": [*(str(number % 50) for number in range(99)), "SECRET"],
        }
    )
    assert [each.role for each in found.values()] == [Role.PERSONAL] * 5 + [Role.FEATURE]
    assert all("looks personal" in each.notes[0] for each in found.values() if each.role is Role.PERSONAL)
    assert found["width"].notes[0] == "ingest quarantines 1 row whose value is no integer"
    assert not any("SECRET" in note for each in found.values() for note in each.notes)


@pytest.mark.parametrize(
    "texts",
    [
        pytest.param({"customer_id": "{0}"}, id="a number by its name"),
        pytest.param({"userid": "{0}"}, id="a number by its name in one word"),
        pytest.param({"Patient": "P{0}"}, id="a code by its name"),
        pytest.param({"ref": "P{0}"}, id="a code by its form"),
        pytest.param({"ref": "30017{0}"}, id="a long number"),
    ],
)
def test_what_several_rows_are_about_is_no_feature(texts: dict[str, str]) -> None:
    """Numbers and codes of persons that come back from row to row are kept out, and may be named as the group."""
    ((name, text),) = texts.items()
    found = examined({name: [text.format(1_000 + 7 * (number % 100)) for number in range(400)]})[name]
    assert found.role is Role.PERSONAL
    assert found.notes == ["looks like whom or what a row is about: kept out of the model; name it with --group if so"]


def test_amounts_and_counts_that_come_back_are_features() -> None:
    """A name that only has such a word in it, and few or common numbers, do not make an identity."""
    amounts = [str(1_000 + 7 * (number % 100)) for number in range(400)]
    few = [str(number % 9) for number in range(400)]
    found = examined({"customer_income": amounts, "number of rooms": amounts, "paid": amounts, "store_id": few})
    assert {each.role for each in found.values()} == {Role.FEATURE}


def test_a_leading_zero_makes_a_code_of_a_number() -> None:
    """`00005` and `5` are two values: a column that has one such is text, and so are its classes."""
    found = examined({"branch": ["05", "7", "10", "11"] * 30, "share": ["0.5", "0", "1", "-0.25"] * 30})
    assert (found["branch"].kind, found["branch"].categories) == (Kind.CATEGORY, ("05", "7", "10", "11"))
    assert found["branch"].notes == ["has leading zeros: text, not a number"]
    assert (found["share"].kind, found["share"].notes) == (Kind.NUMBER, [])


def test_a_text_that_stands_for_a_missing_number_is_named() -> None:
    """A column of numbers and one text, often or seldom, is noted with that text: ingest knows empty cells only."""
    often = ["NA" if number % 5 == 0 else str(number) for number in range(400)]
    seldom = ["?" if number % 20 == 0 else f"{number}.5" for number in range(400)]
    found = examined({"often": often, "seldom": seldom, "words": ["NA", "a", "b", "5"] * 100})
    assert found["often"].notes[0] == (
        "'NA' is 20.0% of the values, the others are of kind integer: if it means a missing value, empty those cells"
    )
    assert found["seldom"].notes == ["ingest quarantines 20 rows whose value is no number ('?')"]
    assert found["words"].notes == []


@pytest.mark.parametrize(
    ("texts", "note"),
    [
        pytest.param(["12,5", "1.012,25", "7", "-0,5"], "numbers with commas", id="decimal commas"),
        pytest.param(["1,012.5", "-7", "12,000"], "numbers with commas", id="commas between thousands"),
        pytest.param(["31.12.2024", "1.2.2025"], "dates", id="dates with dots"),
        pytest.param(["12/31/24", "02/01/25"], "dates", id="dates with slashes"),
        pytest.param(["2025/01/31", "2025/2/1"], "dates", id="the year first, with slashes"),
    ],
)
def test_numbers_and_dates_that_are_read_as_text_are_noted(texts: list[str], note: str) -> None:
    """A column in another notation does not silently become categories, or is left out of the model, without a note."""
    found = examined({"reading": texts * 30})["reading"]
    assert found.kind is Kind.CATEGORY
    assert found.notes[0].startswith(f"is read as text, but looks like {note}: ")


def test_ordinary_texts_have_no_notation() -> None:
    """Words, lists of numbers, versions and addresses are no numbers or dates, and a few such texts prove nothing."""
    texts = {
        "words": ["a", "b, c"] * 60,
        "lists": ["1,2,3", "2,3,4"] * 60,
        "versions": ["1.2.3", "1.10.4"] * 60,
        "machines": ["10.0.0.1", "10.0.0.2"] * 60,
        "some": ["12,5", "often", "seldom", "never"] * 30,
    }
    assert not any("looks like" in note for each in examined(texts).values() for note in each.notes)


@pytest.mark.slow
def test_no_column_hides_what_the_draft_is_written_with(tmp_path: Path) -> None:
    """A column may have the name of any of Python's own functions and types, and the draft can be imported."""
    random = np.random.default_rng(1)
    sources = [name.title() for name in dir(builtins) if name.isalpha() and name.islower() and name != "zip"]
    columns = {name: list(map(str, random.integers(1, 20, 60))) for name in sources}
    found = examined({**columns, "y": ["a", "b"] * 30})
    found["y"].role = Role.LABEL
    signals = measure(found.values(), found["y"])
    source = features_source(Identity(name="own", version="1.0.0", quarantine=0.02), found.values(), signals)
    (tmp_path / "features.py").write_text(source)
    contract = runpy.run_path(str(tmp_path / "features.py"))["CONTRACT"]
    assert [column.name for column in contract.model_inputs] == sources


def test_a_list_is_counted_by_the_column_as_the_file_calls_it() -> None:
    """The header of the counter need not be in snake case."""
    texts = ["none", "a", "a,b", "b"] * 20
    list_of = examined({"Parts": texts, "Part Count": ["0", "1", "2", "1"] * 20})["Parts"].list_of
    assert list_of is not None
    assert list_of.counted_by == "Part Count"


def test_texts_of_an_open_set_are_not_copied_into_the_draft() -> None:
    """Synthetic data and the example have made-up texts, however often each text of the data was seen."""
    found = examined({"town": [f"town {number % 40}" for number in range(400)], "Outcome": ["sold", "kept"] * 200})
    found["Outcome"].role = Role.LABEL
    signals = measure(found.values(), found["Outcome"])
    source = features_source(Identity(name="towns", version="1.0.0", quarantine=0.02), found.values(), signals)
    assert "town 1" not in source
    assert 'example="text 1"' in source
    assert '"text 1": 0.5' in source


@pytest.mark.parametrize("name", ["plain", 'a "b"', "fit \N{GRINNING FACE}", "del \x7f", "tab\t"])
def test_a_key_of_a_policy_is_toml(name: str) -> None:
    """A key with any characters is written so that the file can be read again."""
    assert tomllib.loads(f"{toml_key(name)} = 1") == {name: 1}


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    """A pipe would be waited for, and a device might never end."""
    (tmp_path / "t.csv").symlink_to("/dev/null")
    with pytest.raises(UsageError, match=r"t\.csv: it is not a regular file"):
        read(tmp_path / "t.csv")
