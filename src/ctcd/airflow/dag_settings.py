"""The settings and the name of the instance, as DAG files and templates read them."""

import json

from ctcd.settings import Environment, Settings, load_settings


def dag_settings() -> Settings:
    """Return the environment's settings without the checks of secrets, which only stages need.

    A stage takes the feature store from the connection `feature_store`, and checks it when it runs: the processes that
    parse DAG files and render templates know no secret and need none.
    """
    return load_settings(environment=Environment.LOCAL)


def instance_name() -> str:
    """Return the contract's name, from its lock: importing the contract would make every parse of a DAG file slow."""
    document = dag_settings().contracts / "lock" / "contract.json"
    name: str = json.loads(document.read_text(encoding="utf-8"))["name"]
    return name
