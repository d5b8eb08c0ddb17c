"""The general tests of `tests/contracts`, and the bodies of the load test, fit every form of contract."""

import inspect
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from load.payloads import write_payloads
from support.small_contracts import ALL, Small, write_instance

from ctcd.cli.app import run
from ctcd.contract.instance import Instance, load_instance

GENERAL = Path(__file__).parents[2] / "contracts"
FEW = "few"
settings.register_profile(FEW, deadline=None, max_examples=10, database=None)


def general_tests(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[..., None]]:
    """Return the general tests of an instance that need neither a server nor a trained model, by name.

    They draw a few examples: there are many forms, and one has hundreds of columns.
    """
    stand_in = SimpleNamespace(INSTANCE=instance, CONTRACT=instance.contract, PAYLOAD=instance.payload)
    monkeypatch.setitem(sys.modules, "support.tested_instance", stand_in)
    profile = settings.get_current_profile_name()
    settings.load_profile(FEW)
    found = {**runpy.run_path(str(GENERAL / "test_api.py")), **runpy.run_path(str(GENERAL / "test_data.py"))}
    settings.load_profile(profile)
    return {
        name: test
        for name, test in found.items()
        if name.startswith("test_") and set(inspect.signature(test).parameters) <= {"tmp_path"}
    }


def pass_all(instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, but: tuple[str, ...] = ()) -> None:
    """Run the general tests, and draw bodies as the load test does."""
    for name, test in general_tests(instance, monkeypatch).items():
        folder = tmp_path / name
        folder.mkdir()
        given: dict[str, Any] = {"tmp_path": folder} if inspect.signature(test).parameters else {}
        if name not in but:
            test(**given)
    write_payloads(tmp_path / "bodies", instance.contract, count=10)
    bodies = (tmp_path / "bodies").read_text().splitlines()
    assert len(bodies) == 10
    for body in bodies:
        instance.payload.request.model_validate_json(body)


@pytest.mark.slow
@pytest.mark.parametrize("small", ALL, ids=lambda small: small.name)
def test_the_general_tests_fit_this_form_of_contract(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they draw keeps or breaks the rules of whatever kinds, names and bounds the columns have."""
    instance = write_instance(small, tmp_path / "instance")
    pass_all(instance, tmp_path, monkeypatch, but=("test_the_lock_is_current",))


@pytest.mark.slow
def test_the_general_tests_fit_a_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They pass on what `ctcd init` makes of names with brackets, zeros, truths, days and texts of any kind."""
    random = np.random.default_rng(2)
    score = random.standard_normal(200)
    table = pd.DataFrame(
        {
            "petal length (cm)": np.round(4 + score, 1),
            "change (of 1)": -random.integers(0, 9, 200),
            "wild": np.where(random.random(200) < 0.4, "True", "False"),
            "found": pd.Timestamp("2024-01-01") + pd.to_timedelta(random.integers(0, 300, 200), "D"),
            "remark": [f"remark\n{number}" for number in random.integers(0, 50, 200)],
            "species": np.where(score + 0.3 * random.standard_normal(200) > 0, "setosa", "virginica"),
        }
    )
    table.to_csv(tmp_path / "iris.csv", index=False)
    folder = tmp_path / "instance"
    assert run(["init", str(tmp_path / "iris.csv"), "--label", "species", "--into", str(folder)]) == 0
    pass_all(load_instance(folder), tmp_path, monkeypatch)
