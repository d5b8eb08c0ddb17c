"""The pools of our DAGs, which are created together with Airflow's database, and the queue of their deployments."""

PROMOTION_POOL, TRAINING_POOL = "promotion", "training"
POOLS = {
    PROMOTION_POOL: (1, "changes the champion or the deployment"),
    TRAINING_POOL: (2, "trials in parallel"),
}
"""Slots and description of each pool."""
DEPLOYMENT_QUEUE = "deployment"
"""Queue of what acts on the machine of its worker. With the Celery executor one worker takes it; other executors have
no queues."""
