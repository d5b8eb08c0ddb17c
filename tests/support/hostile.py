"""Bodies within the size limit of a batch that cost as much as possible to refuse."""

import json
from typing import Any


def hostile_bodies(row: dict[str, Any], texts: str, size: int) -> dict[str, bytes]:
    """Return the ten worst bodies known, each of about `size` bytes and none longer, by what is wrong with them.

    Args:
        row: a valid row of the contract.
        size: in bytes, 500,000 or more.
        texts: name of a field that holds a list as text.
    """
    name = texts
    digits = b"9" * 4_290  # the longest number that the parser reads
    keys = b",".join(b'"k%d":0' % number for number in range(3_000))

    def batch(item: bytes, every: int | None = None) -> bytes:
        count = (size - 12) // (len(item) + 1) if every is None else every
        return b'{"data":[' + b",".join([item] * count) + b"]}"

    unknown = b",".join(b'"%07d":0' % number for number in range((size - 14) // 12))
    numbers = json.dumps(row)[:-1].encode() + b"," + b",".join(b'"x%d":%s' % (n, digits) for n in range(20)) + b"}"
    filled = json.dumps(row).encode().ljust(max((size - 12) // 10_000 - 1, 0))
    return {
        "rows with thousands of unknown fields": batch(b"{" + keys + b"}"),
        "one row with all unknown fields": b'{"data":[{' + unknown + b"}]}",
        "millions of numbers instead of rows": batch(b"0"),
        "one list of millions of entries": b'{"data":[{"%s":"' % name.encode() + b"a," * (size // 2 - 64) + b'"}]}',
        "millions of empty lists": b'{"data":[' + b"[" * (size // 2 - 6) + b"]" * (size // 2 - 6) + b"]}",
        "rows of long numbers": batch(numbers),
        "invalid rows, as many as allowed": batch(b'{"%s":null,"a":[],"b":"c"}' % name.encode(), 10_000),
        "one long text of escapes": b'{"data":[{"%s":"' % name.encode() + rb"\u00e9" * (size // 6 - 9) + b'"}]}',
        "one long text of backslashes": b'{"data":[{"%s":"' % name.encode() + b"\\" * (size // 4 * 2 - 64) + b'"}]}',
        "valid rows, then one byte too few": batch(filled, 10_000)[:-1],
    }
