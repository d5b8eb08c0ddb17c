"""The settings, as DAG files and templates read them."""

from ctcd.settings import Environment, Settings, load_settings


def dag_settings() -> Settings:
    """Return the environment's settings without the checks of secrets, which only stages need.

    A stage takes the feature store from the connection `feature_store`, and checks it when it runs: the processes that
    parse DAG files and render templates know no secret and need none.
    """
    return load_settings(environment=Environment.LOCAL)
