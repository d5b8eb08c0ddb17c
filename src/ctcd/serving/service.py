"""What BentoML serves: the service of the instance that the settings name, set up by the environment."""

from ctcd.contract.instance import load_instance
from ctcd.serving.app import make_service
from ctcd.settings import load_settings

settings = load_settings()
service = make_service(settings, load_instance(settings.contracts))
