"""What a contract is, and validation of data against it. An instance's modules import the names below."""

from ctcd.contract.columns import ListOf, Role, Simulate, column
from ctcd.contract.payload import make_payload
from ctcd.contract.spec import Contract

__all__ = ["Contract", "ListOf", "Role", "Simulate", "column", "make_payload"]
