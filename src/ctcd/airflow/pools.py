"""The pools of our DAGs, which are created together with Airflow's database."""

PROMOTION_POOL, TRAINING_POOL = "promotion", "training"
POOLS = {
    PROMOTION_POOL: (1, "changes the champion or the deployment"),
    TRAINING_POOL: (2, "trials in parallel"),
}
"""Slots and description of each pool."""
