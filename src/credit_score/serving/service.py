"""What BentoML serves: the service of this project's contracts, set up by the environment."""

from contracts.features import CONTRACT
from contracts.payload import PAYLOAD
from credit_score.serving.app import make_service
from credit_score.settings import load_settings

service = make_service(load_settings(), CONTRACT, PAYLOAD)
