"""The payload contract: request and response bodies of the API. Fields may be added, but not renamed or removed."""

from ctcd.contract import make_payload

from .features import CONTRACT

PAYLOAD = make_payload(CONTRACT, row_name="CreditRow", max_rows=10_000)
