"""The provider that Airflow finds through the entry point `apache_airflow_provider`."""

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the description of our provider: the connection type `mariadb` with its form, and the links to MLflow."""
    return {
        # Airflow accepts a provider only under the name of the distribution that contains it.
        "package-name": "ctcd",
        "name": "ctcd",
        "description": "MariaDB on PyMySQL, for the feature store.",
        "extra-links": ["ctcd.airflow.links.RunLink", "ctcd.airflow.links.VersionLink"],
        "connection-types": [
            {
                "connection-type": "mariadb",
                "hook-name": "MariaDB (PyMySQL)",
                "hook-class-name": "ctcd.airflow.hook.MariaDbHook",
                "ui-field-behaviour": {
                    "hidden-fields": ["extra"],
                    "relabeling": {"schema": "Database", "login": "User"},
                    "placeholders": {"host": "mariadb", "port": "3306", "schema": "mlops"},
                },
                "conn-fields": {
                    "ssl_ca": {
                        "label": "CA file",
                        "description": "File on the worker with the certificate of the authority that signed the server's.",
                        "schema": {"type": ["string", "null"]},
                    }
                },
            }
        ],
    }
