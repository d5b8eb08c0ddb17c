"""What the image of Airflow prepares before its services start."""

import json
import runpy
import stat
from pathlib import Path

import pytest
from airflow.models.pool import Pool
from support.airflow_home import ROOT

from ctcd.airflow.pools import POOLS, PROMOTION_POOL, TRAINING_POOL

pytestmark = pytest.mark.integration


def test_the_training_pool_has_the_slots_that_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of TRAINING_SLOTS, else its own; no other pool changes, and only its user may read the login."""
    main = runpy.run_path(str(ROOT / "docker" / "airflow" / "prepare.py"))["main"]
    login = tmp_path / "login.json"
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", str(login))
    monkeypatch.setenv("AIRFLOW_ADMIN_PASSWORD", "a password")
    for given, slots in (("8", 8), (None, POOLS[TRAINING_POOL][0])):
        monkeypatch.delenv("TRAINING_SLOTS", raising=False)
        if given:
            monkeypatch.setenv("TRAINING_SLOTS", given)
        main()
        found = {pool.pool: pool.slots for pool in Pool.get_pools()}
        assert found == found | {TRAINING_POOL: slots, PROMOTION_POOL: POOLS[PROMOTION_POOL][0]}
    assert json.loads(login.read_text()) == {"admin": "a password"}
    assert stat.S_IMODE(login.stat().st_mode) == 0o600


@pytest.mark.parametrize("slots", ["0", "-1", "many", ""])
def test_slots_that_are_no_number_are_refused(slots: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line, before anything is prepared."""
    main = runpy.run_path(str(ROOT / "docker" / "airflow" / "prepare.py"))["main"]
    monkeypatch.setenv("TRAINING_SLOTS", slots)
    with pytest.raises(SystemExit, match=f"TRAINING_SLOTS: '{slots}' is not a whole number from 1 on"):
        main()
