"""What a contract is, and checking data against it. A team's `features.py` is written with the names here."""

from ctcd.contract.columns import ListOf, Role, Simulate, column
from ctcd.contract.payload import make_payload
from ctcd.contract.spec import Contract

__all__ = ["Contract", "ListOf", "Role", "Simulate", "column", "make_payload"]
