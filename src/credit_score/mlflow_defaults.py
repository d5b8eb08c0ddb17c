"""How MLflow behaves where the environment does not say otherwise; import it before MLflow, which reads it on import."""

import logging
import os

DEFAULTS = {
    # Nothing is sent home, printed, or picked up from the working directory and the environment.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    # A dead server is noticed within seconds; MLflow's own defaults take minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}

for _name, _value in DEFAULTS.items():
    os.environ.setdefault(_name, _value)
logging.getLogger("alembic").setLevel(logging.ERROR)
