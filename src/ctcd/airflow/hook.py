"""Connections of the type `mariadb`."""

from typing import Any

import pymysql
from airflow.providers.common.sql.hooks.sql import DbApiHook
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from sqlalchemy import URL, Engine

from ctcd.errors import shown
from ctcd.store import engine

FEATURE_STORE = "feature_store"
"""Id of the Airflow connection to the feature store."""


class MariaDbHook(DbApiHook):
    """MariaDB through PyMySQL, with sessions like those of `ctcd.store.engine`: strict, in UTC, READ COMMITTED.

    It works with `SQLExecuteQueryOperator` and the SQL check operators. Each call of `run` is one transaction. `ssl_ca`
    in the connection's extra is the file with the certificate of the server's certificate authority.
    """

    conn_name_attr = "mariadb_conn_id"
    default_conn_name = FEATURE_STORE
    conn_type = "mariadb"
    hook_name = "MariaDB (PyMySQL)"
    supports_autocommit = True

    @property
    def sqlalchemy_url(self) -> URL:
        """SQLAlchemy URL of the connection, with its password."""
        connection = self.connection
        authority = self.connection_extra.get("ssl_ca")
        return URL.create(
            "mysql+pymysql",
            username=connection.login,
            password=connection.password,
            host=connection.host,
            port=connection.port,
            database=connection.schema,
            query={"ssl_ca": authority} if authority else {},
        )

    def get_uri(self) -> str:
        """Return the URL as text, with its password."""
        return self.sqlalchemy_url.render_as_string(hide_password=False)

    def get_sqlalchemy_engine(self, engine_kwargs: dict[str, Any] | None = None) -> Engine:
        """Return the engine that stages use.

        Raises:
            Unreachable: the server does not answer or refuses the connection.
            ValueError: `engine_kwargs` are given.
        """
        if engine_kwargs:
            raise ValueError("the feature store's engine is set up by ctcd.store.engine")
        return engine.connect(self.get_uri())

    def get_conn(self) -> "pymysql.Connection[pymysql.cursors.Cursor]":
        """Return an open connection that the caller closes."""
        url = self.sqlalchemy_url
        given: dict[str, Any] = {**url.translate_connect_args(username="user"), **url.query}
        opened = pymysql.connect(**given, **engine.MARIADB_SESSION)
        with opened.cursor() as cursor:
            cursor.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {engine.ISOLATION}")
        return opened

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run statements; see `DbApiHook.run`.

        Raises:
            AirflowException: the server refuses one; its message, which may contain values, is left out.
        """
        try:
            return super().run(*args, **kwargs)
        except pymysql.Error as error:
            reason = engine.refusal(error, self.sqlalchemy_url)
            raise AirflowException(shown(reason or error)) from None

    def set_autocommit(self, conn: Any, autocommit: bool) -> None:
        """Set whether each statement is a transaction of its own."""
        conn.autocommit(autocommit)

    def get_autocommit(self, conn: Any) -> bool:
        """Return whether each statement is a transaction of its own."""
        return bool(conn.get_autocommit())


def rows_required(cursor: Any) -> list[Any] | None:
    """Return the rows of a result, of which the first number is how many rows the statements before it have inserted.

    As a hook's handler it runs before the transaction is committed: if it raises, nothing is changed. After a
    statement that was no query, it returns None.

    Raises:
        AirflowFailException: no row was inserted.
    """
    if cursor.description is None:
        return None
    rows = [list(row) for row in cursor.fetchall()]
    if rows[0][0] == 0:
        raise AirflowFailException(
            "no row has both a label in the window and features of that day or before; nothing was changed"
        )
    return rows
