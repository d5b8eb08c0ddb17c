"""The guard that keeps tests away from databases that are not theirs."""

import pytest
from sqlalchemy.engine import URL
from support import mariadb as support
from support.mariadb import ForeignDatabase, database, drop

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("name", ["mlops", "test", "ctcd_test_2", None])
def test_a_foreign_database_is_never_dropped(mariadb: URL, name: str | None) -> None:
    """A database whose name lacks the suffix is refused before anything is sent to the server."""
    with pytest.raises(ForeignDatabase, match="refuse to drop"):
        drop(mariadb.set(host="nowhere.invalid", database=name))


def test_a_test_database_is_gone_afterwards(mariadb: URL) -> None:
    """A test's database has a name of its own that ends in the suffix, and is dropped in the end."""
    with database(mariadb) as first, database(mariadb) as second:
        assert str(first.database).endswith("_test")
        assert first.database != second.database
    drop(first)  # there is nothing left to drop, and that is no error


def test_a_configured_server_is_used_and_its_database_is_not(mariadb: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of FEATURE_STORE_URL is used without its database, and a SQLite URL does not count."""
    monkeypatch.setenv("FEATURE_STORE_URL", mariadb.set(database="mlops").render_as_string(hide_password=False))
    with support.server() as url:
        assert (url.host, url.port, url.database) == (mariadb.host, mariadb.port, None)
    monkeypatch.setenv("FEATURE_STORE_URL", "sqlite:///x.db")
    with support.server() as url:
        assert url.port != mariadb.port
