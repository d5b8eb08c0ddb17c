"""The payload contract: what the API accepts and answers. Fields may be added; none may be renamed or dropped."""

from ctcd.contract import make_payload

from .features import CONTRACT

PAYLOAD = make_payload(CONTRACT, row_name="CreditRow", max_rows=10_000)
