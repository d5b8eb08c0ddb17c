"""Findings in both databases."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import pytest
from sqlalchemy import text, update
from support.instance import CONTRACT

from ctcd.monitoring.findings import Finding, close_finding, list_findings, raise_finding, training_due
from ctcd.store.engine import connect
from ctcd.store.tables import build_tables

pytestmark = pytest.mark.integration

DAY = date(2025, 9, 2)


def test_monitors_that_run_at_once_raise_one_finding(each_store_url: str) -> None:
    """Each of them gets the same one, only one has raised it; once it is closed, the same is true of the next."""
    engine = connect(each_store_url)

    def raised(after: int) -> Finding:
        day = DAY + timedelta(days=after % 3)
        return raise_finding(engine, CONTRACT, kind="drift", subject="temperature", evidence={"psi": 0.5}, day=day)

    for number in range(1, 3):
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(raised, range(12)))
        assert len({each.id for each in found}) == 1
        assert [each.new for each in found].count(True) == 1
        [one] = list_findings(engine, CONTRACT)
        assert (one.last_seen, one.evidence) == ("2025-09-04", {"psi": 0.5})
        close_finding(engine, CONTRACT, one.id, reason="known", by="ann", day=DAY)
        assert len(list_findings(engine, CONTRACT, closed=True)) == number
    engine.dispose()


def test_monitors_that_run_at_once_start_one_training(each_store_url: str) -> None:
    """Only the first of them is told to; the others see that it has."""
    engine = connect(each_store_url)
    raise_finding(engine, CONTRACT, kind="drift", subject="temperature", evidence={"psi": 0.5}, day=DAY)

    def started(_: int) -> bool:
        return training_due(engine, CONTRACT, DAY, cool_down=timedelta(days=7), started=True).due

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(started, range(8))) == [False] * 7 + [True]
    engine.dispose()


def test_a_monitor_waits_for_one_that_starts_a_training(store_url: str) -> None:
    """It reads the findings once the other has marked them, so that it does not start the training again."""
    engine, table = connect(store_url), build_tables(CONTRACT).findings
    raise_finding(engine, CONTRACT, kind="drift", subject="temperature", evidence={"psi": 0.5}, day=DAY)
    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as other:
            other.execute(update(table).values(trained_on=DAY))
            second = pool.submit(training_due, engine, CONTRACT, DAY, cool_down=timedelta(days=7), started=True)
            waiting = text("SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'")
            with engine.connect() as watch:
                while not watch.scalar(waiting):
                    assert not second.done(), "it did not wait"
                    watch.rollback()
                    time.sleep(0.2)  # the server shows what it has read before to those who ask more often
        assert not second.result().due
    engine.dispose()
