"""The payload of the tests' instance."""

from ctcd.contract import make_payload

from .features import CONTRACT

PAYLOAD = make_payload(CONTRACT, row_name="ReadingRow", max_rows=10_000)
