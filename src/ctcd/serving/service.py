"""The entry point of a Bento: the service of the instance that the settings name."""

from ctcd.contract.instance import load_instance
from ctcd.serving.app import make_service
from ctcd.settings import load_settings

settings = load_settings()
service = make_service(settings, load_instance(settings.contracts))
