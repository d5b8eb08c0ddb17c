"""What DAG files and templates read of the settings and of the instance."""

import json

from ctcd.settings import Environment, Settings, load_settings


def dag_settings() -> Settings:
    """Return the environment's settings without asking for what only stages need.

    The feature store is the connection `feature_store`, and is held to the rules for secrets where a stage runs: whoever
    parses DAG files or renders a template knows no secret and needs none.
    """
    return load_settings(environment=Environment.LOCAL)


def instance_name() -> str:
    """Return the contract's name, from its lock: to import the contract would make every parse of a DAG file slow."""
    document = dag_settings().contracts / "lock" / "contract.json"
    name: str = json.loads(document.read_text(encoding="utf-8"))["name"]
    return name
