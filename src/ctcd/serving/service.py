"""The entry point of a Bento: the service of the instance that the settings name."""

from ctcd.contract.instance import load_instance
from ctcd.errors import show_only_our_messages
from ctcd.serving.app import make_service
from ctcd.settings import load_settings

show_only_our_messages()
settings = load_settings()
service = make_service(settings, load_instance(settings.contracts))
