"""The connection type `mariadb`, on a real server."""

import pymysql
import pytest
import support.airflow_home  # noqa: F401 - before Airflow
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
from airflow.providers.common.sql.operators.sql import SQLCheckOperator, SQLTableCheckOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime
from sqlalchemy import make_url

from ctcd.airflow.hook import FEATURE_STORE, MariaDbHook, rows_required
from ctcd.store.engine import connect

pytestmark = pytest.mark.integration


@pytest.fixture
def hook(empty_store_url: str, monkeypatch: pytest.MonkeyPatch) -> MariaDbHook:
    """A hook on an empty table `t` with one short text column."""
    uri = make_url(empty_store_url).set(drivername="mariadb").render_as_string(hide_password=False)
    monkeypatch.setenv("AIRFLOW_CONN_FEATURE_STORE", uri)
    engine = connect(empty_store_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (word VARCHAR(3) NOT NULL) ENGINE=InnoDB")
    engine.dispose()
    return MariaDbHook(FEATURE_STORE)


def test_airflow_finds_the_connection_type() -> None:
    """The package's entry point registers the hook, and the form has our labels and the field for the authority."""
    info = ProvidersManagerTaskRuntime().hooks["mariadb"]  # type: ignore[no-untyped-call] # Airflow left it untyped
    assert info is not None
    assert info.hook_class_name == "ctcd.airflow.hook.MariaDbHook"
    (form,) = [meta for meta in HookMetaService.hook_meta_data() if meta.connection_type == "mariadb"]
    assert form.hook_name == "MariaDB (PyMySQL)"
    assert form.extra_fields is not None
    assert form.extra_fields["ssl_ca"]["schema"]["title"] == "CA file"
    assert form.standard_fields is not None
    assert form.standard_fields.url_schema is not None
    assert form.standard_fields.url_schema.title == "Database"


def test_sessions_are_those_of_the_store(hook: MariaDbHook) -> None:
    """A session is strict, in UTC and READ COMMITTED, as those of the stages are, and the hook's engine is theirs."""
    settings = "SELECT @@sql_mode, @@time_zone, @@tx_isolation, @@character_set_connection"
    with hook.get_sqlalchemy_engine().connect() as connection:
        expected = tuple(connection.exec_driver_sql(settings).one())
    assert hook.get_first(settings) == expected
    with pytest.raises(AirflowException, match="DataError at ") as refused:
        hook.run("INSERT INTO t VALUES ('four')")
    assert "too long" not in str(refused.value)
    assert refused.value.__cause__ is None
    for ask in (hook.get_first, hook.get_records):
        with pytest.raises(AirflowException, match="OperationalError at ") as refused:
            ask("SELECT a_name_that_is_no_column FROM t")
        assert "a_name_that_is_no_column" not in str(refused.value)


def test_statements_are_one_transaction(hook: MariaDbHook) -> None:
    """If a later statement fails, or the handler refuses the result, nothing of the earlier ones stays."""
    with pytest.raises(AirflowException, match="no tables yet"):
        hook.run("INSERT INTO t VALUES ('a'); INSERT INTO missing VALUES (1)", split_statements=True)
    with pytest.raises(AirflowFailException, match="nothing was changed"):
        hook.run("INSERT INTO t VALUES ('a'); SELECT 0", split_statements=True, handler=rows_required, return_last=True)
    assert hook.get_records("SELECT * FROM t") == ()
    done = hook.run("INSERT INTO t VALUES ('a'); SELECT COUNT(*) FROM t", split_statements=True, handler=rows_required)
    assert done == [[1]]
    assert hook.get_records("SELECT * FROM t") == (("a",),)


def test_statements_are_not_sent_together(hook: MariaDbHook) -> None:
    """Several statements in one text are refused by the server unless they are split, so that no error is swallowed."""
    with pytest.raises(AirflowException, match="ProgrammingError at "):
        hook.run("INSERT INTO t VALUES ('a'); INSERT INTO t VALUES ('b')")


def test_sql_checks_work(hook: MariaDbHook) -> None:
    """Airflow's SQL checks pass and fail on the connection."""
    hook.run("INSERT INTO t VALUES ('a')")
    SQLCheckOperator(task_id="check", conn_id=FEATURE_STORE, sql="SELECT COUNT(*) = 1 FROM t").execute({})
    with pytest.raises(AirflowException):
        SQLCheckOperator(task_id="check", conn_id=FEATURE_STORE, sql="SELECT COUNT(*) = 2 FROM t").execute({})
    checks = {"one_row": {"check_statement": "COUNT(*) = 1"}}
    SQLTableCheckOperator(task_id="check", conn_id=FEATURE_STORE, table="t", checks=checks).execute({})


def test_the_url_is_that_of_the_stages(hook: MariaDbHook, empty_store_url: str) -> None:
    """The hook hands a stage a URL that leads to the same database, whatever characters the password has."""
    assert make_url(hook.get_uri()) == make_url(empty_store_url)


def test_an_authority_reaches_the_driver(hook: MariaDbHook, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate in the connection's extra is asked for: a file that is not there fails the connection."""
    uri = make_url(hook.get_uri()).set(drivername="mariadb", query={"ssl_ca": "/no/such/ca.pem"})
    monkeypatch.setenv("AIRFLOW_CONN_FEATURE_STORE", uri.render_as_string(hide_password=False))
    with pytest.raises((FileNotFoundError, pymysql.OperationalError)):
        MariaDbHook(FEATURE_STORE).get_first("SELECT 1")
