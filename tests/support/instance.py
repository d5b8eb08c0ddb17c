"""The instance that the engine's tests run on."""

from pathlib import Path

from ctcd.contract.instance import load_instance

FOLDER = Path(__file__).parents[1] / "instance"
INSTANCE = load_instance(FOLDER)
CONTRACT = INSTANCE.contract
PAYLOAD = INSTANCE.payload
