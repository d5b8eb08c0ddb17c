"""Code that MLflow runs to create the model ("models from code")."""

from mlflow.models import set_model

from ctcd.model.pyfunc import ScorerModel

set_model(ScorerModel())
