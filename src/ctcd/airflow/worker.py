"""The settings of stages that Airflow runs."""

from urllib.parse import quote

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from pydantic import SecretStr

from ctcd.airflow.hook import FEATURE_STORE, MariaDbHook
from ctcd.settings import Settings, load_settings

MLFLOW = "mlflow"
"""Id of the optional Airflow connection to MLflow."""


def worker_settings() -> Settings:
    """Return the worker's settings, with the feature store from the connection `feature_store`.

    MLflow's address comes from the connection `mlflow` if there is one, else from the worker's environment.

    Raises:
        AirflowNotFoundException: there is no connection `feature_store`.
    """
    given: dict[str, SecretStr] = {"feature_store_url": SecretStr(MariaDbHook(FEATURE_STORE).get_uri())}
    try:
        mlflow = Connection.get(MLFLOW)
    except AirflowNotFoundException:
        pass
    else:
        given["mlflow_tracking_uri"] = SecretStr(_http_uri(mlflow))
    return load_settings(**given)


def _http_uri(connection: Connection) -> str:
    who = ""
    if connection.login:
        who = f"{quote(connection.login, safe='')}:{quote(connection.password or '', safe='')}@"
    port = f":{connection.port}" if connection.port else ""
    return f"{connection.schema or 'http'}://{who}{connection.host}{port}"
