"""The instance that `make contracts` tests: the one in `contracts/`, or in the folder that INSTANCE names."""

import os
from pathlib import Path

from ctcd.contract.instance import load_instance

INSTANCE = load_instance(Path(__file__).parents[2] / os.environ.get("INSTANCE", "contracts"))
CONTRACT = INSTANCE.contract
PAYLOAD = INSTANCE.payload
