"""The instance that the benchmarks run on: the one that the settings name."""

from ctcd.contract.instance import load_instance
from ctcd.settings import load_settings

INSTANCE = load_instance(load_settings().contracts)
CONTRACT = INSTANCE.contract
PAYLOAD = INSTANCE.payload
