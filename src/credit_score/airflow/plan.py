"""The settings that DAG files and templates read: zone, schedules, how far back a snapshot reaches."""

from credit_score.settings import Environment, Settings, load_settings


def plan() -> Settings:
    """Return the environment's settings without asking for what only stages need.

    The feature store is the connection `feature_store`, and is held to the rules for secrets where a stage runs: whoever
    parses DAG files or renders a template knows no secret and needs none.
    """
    return load_settings(environment=Environment.LOCAL)
