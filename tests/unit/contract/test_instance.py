"""An instance is loaded from any folder, and a folder that is no instance is refused with the reason."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.instance import CONTRACT, FOLDER, INSTANCE

from ctcd.contract.instance import load_instance
from ctcd.errors import UsageError
from ctcd.settings import Settings
from ctcd.stages.connections import instance

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes an instance from the tests' own, with other text in some files; None leaves a file out."""

    def make(name: str = "instance", **texts: str | None) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file in ("features", "payload"):
            text = texts.pop(file, (FOLDER / f"{file}.py").read_text())
            if text is not None:
                (folder / f"{file}.py").write_text(text)
        for file, text in texts.items():
            assert text is not None
            (folder / f"{file}.py").write_text(text)
        return folder

    return make


def refusal(folder: Path) -> str:
    """Return the message with which a folder is refused."""
    with pytest.raises(UsageError) as refused:
        load_instance(folder)
    return str(refused.value)


def test_the_same_folder_gives_the_same_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the folder is spelled, it is imported once."""
    assert load_instance(FOLDER) is INSTANCE
    monkeypatch.chdir(FOLDER.parent)
    assert load_instance(Path("instance")) is INSTANCE
    assert load_instance(FOLDER / ".." / "instance") is INSTANCE


def test_the_policies_are_files_of_the_folder(make: Make) -> None:
    """Every path of an instance lies in its own folder, wherever that is."""
    folder = make()
    found = load_instance(folder)
    assert found.folder == folder
    assert (found.lock, found.migrations) == (folder / "lock", folder / "migrations" / "versions")
    policies = (found.promotion_policy, found.training_profiles, found.service_levels, found.monitoring_policy)
    names = ["promotion.toml", "training.toml", "service.toml", "monitoring.toml"]
    assert list(policies) == [folder / name for name in names]


def test_stages_use_the_folder_of_the_settings(make: Make) -> None:
    """What CTCD_CONTRACTS names is what stages work with, whatever stands in `contracts/`."""
    folder = make()
    assert instance(Settings(contracts=folder)).folder == folder


def test_two_instances_in_one_process_are_independent(make: Make) -> None:
    """Two folders with modules of the same names give two contracts, and neither replaces the other."""
    renamed = (FOLDER / "features.py").read_text().replace('name="machine_condition"', 'name="other_condition"')
    first, second = load_instance(make("first")), load_instance(make("second", features=renamed))
    assert (first.contract.name, second.contract.name) == (CONTRACT.name, "other_condition")
    assert first.contract.features is not second.contract.features
    assert (load_instance(first.folder), load_instance(second.folder)) == (first, second)


def test_modules_of_an_instance_import_each_other(make: Make) -> None:
    """Relative imports work, also of a module that the engine does not know."""
    payload = (FOLDER / "payload.py").read_text() + "\nfrom .limits import ROWS\n\n"
    payload += 'PAYLOAD = make_payload(CONTRACT, row_name="Row", max_rows=ROWS)\n'
    found = load_instance(make(payload=payload, limits="ROWS = 7\n"))
    assert found.payload.max_rows == 7


def test_a_missing_folder_is_named_with_the_setting_to_correct(tmp_path: Path) -> None:
    """A folder that does not exist, or is a file, is refused with its path and the variable."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "nowhere", tmp_path / "file"):
        message = refusal(path)
        assert str(path) in message
        assert "CTCD_CONTRACTS" in message


@pytest.mark.parametrize("missing", ["features", "payload"])
def test_a_missing_file_is_named(make: Make, missing: str) -> None:
    """A folder without one of the two modules is refused with the file that is missing."""
    folder = make(**{missing: None})
    assert str(folder / f"{missing}.py") in refusal(folder)


@pytest.mark.parametrize(
    ("module", "text", "line", "reason"),
    [
        ("features", "X = 1\nimport no_such_module\n", 2, "ModuleNotFoundError: No module named 'no_such_module'"),
        ("features", "X = 1\nY = 2\n\nZ = (\n", 4, "SyntaxError"),
        ("payload", "def fail():\n    raise ValueError('too long')\n\nfail()\n", 2, "ValueError: too long"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named_with_its_line(
    make: Make, module: str, text: str, line: int, reason: str
) -> None:
    """An error in an instance ends in one line with the file, the line and the reason."""
    folder = make(**{module: text})
    message = refusal(folder)
    assert message.startswith(f"{folder / f'{module}.py'}:{line}: cannot be imported: ")
    assert reason in message


@pytest.mark.parametrize(
    ("module", "text", "name", "kind"),
    [
        ("features", "X = 1\n", "CONTRACT", "Contract"),
        ("features", "CONTRACT = {'name': 'x'}\n", "CONTRACT", "Contract"),
        ("payload", "X = 1\n", "PAYLOAD", "Payload"),
    ],
)
def test_a_module_without_its_object_is_refused(make: Make, module: str, text: str, name: str, kind: str) -> None:
    """A module that lacks CONTRACT or PAYLOAD, or has something else under that name, is refused."""
    message = refusal(make(**{module: text}))
    assert f"defines no {name}" in message
    assert kind in message


def test_a_corrected_instance_can_be_loaded(make: Make) -> None:
    """A refused folder is not remembered as refused."""
    folder = make(payload=None)
    refusal(folder)
    (folder / "payload.py").write_text((FOLDER / "payload.py").read_text())
    assert load_instance(folder).contract.name == CONTRACT.name
