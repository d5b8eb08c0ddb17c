"""Connections of the type `mariadb`."""

from typing import Any

import pymysql
from airflow.providers.common.sql.hooks.sql import DbApiHook
from airflow.sdk.exceptions import AirflowFailException
from sqlalchemy import URL, Engine

from ctcd.store import engine

FEATURE_STORE = "feature_store"
"""Id of the Airflow connection of the feature store."""


class MariaDbHook(DbApiHook):
    """MariaDB on PyMySQL, in sessions like those of `ctcd.store.engine`: strict, in UTC, READ COMMITTED.

    It works with `SQLExecuteQueryOperator` and the SQL checks. One call of `run` is one transaction. A connection's extra
    may name the certificate of the server's authority as `ssl_ca`.
    """

    conn_name_attr = "mariadb_conn_id"
    default_conn_name = FEATURE_STORE
    conn_type = "mariadb"
    hook_name = "MariaDB (PyMySQL)"
    supports_autocommit = True

    @property
    def sqlalchemy_url(self) -> URL:
        """URL of the connection, with its password."""
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
            ValueError: arguments for the engine are given; it has its own.
        """
        if engine_kwargs:
            raise ValueError("the feature store's engine is set up by ctcd.store.engine")
        return engine.connect(self.get_uri())

    def get_conn(self) -> "pymysql.Connection[pymysql.cursors.Cursor]":
        """Return an open connection that the caller closes."""
        connection = self.connection
        authority = self.connection_extra.get("ssl_ca")
        opened = pymysql.connect(
            host=connection.host or "localhost",
            port=connection.port or 3306,
            user=connection.login,
            password=connection.password or "",
            database=connection.schema,
            ssl_ca=authority,
            **engine.MARIADB_SESSION,
        )
        with opened.cursor() as cursor:
            cursor.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {engine.ISOLATION}")
        return opened

    def set_autocommit(self, conn: Any, autocommit: bool) -> None:
        """Set whether each statement is a transaction of its own."""
        conn.autocommit(autocommit)

    def get_autocommit(self, conn: Any) -> bool:
        """Return whether each statement is a transaction of its own."""
        return bool(conn.get_autocommit())


def rows_required(cursor: Any) -> list[Any] | None:
    """Handle the results of statements of which a query tells, in its one number, how many rows they made.

    It runs before the transaction is committed: if there are none, nothing was changed.

    Raises:
        AirflowFailException: there are none.
    """
    if cursor.description is None:
        return None
    rows = [list(row) for row in cursor.fetchall()]
    if rows[0][0] == 0:
        raise AirflowFailException(
            "no row has a label in the window and features of that day or before; nothing was changed"
        )
    return rows
