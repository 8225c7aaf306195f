"""How data becomes JSON: one form for what is signed or hashed, one for a line of a file, one for people to read.

Invariant: equal data gives equal bytes, whatever order its keys came in; only the form for people may keep their order.

>>> canonical({"b": [1, "é"], "a": None})
b'{"a":null,"b":[1,"\\\\u00e9"]}'
>>> line({"b": 1, "a": "é"})
'{"a": "é", "b": 1}\\n'
"""

from __future__ import annotations

import json
from typing import Any


def canonical(data: Any, *, ascii_only: bool = True, allow_nan: bool = True) -> bytes:
    """The form that is signed or hashed: sorted keys, no spaces.

    Parameters
    ----------
    ascii_only : other letters as escapes; the audit log alone has them as they are.
    allow_nan : whether NaN and infinity, which aren't JSON, may be in it.

    Raises
    ------
    TypeError, ValueError : the data isn't JSON.
    """
    text = json.dumps(
        data, sort_keys=True, separators=(",", ":"), ensure_ascii=ascii_only, allow_nan=allow_nan
    )
    return text.encode()


def line(record: dict[str, Any]) -> str:
    """One line of a file of records, with its line feed."""
    return json.dumps(record, sort_keys=True, ensure_ascii=False) + "\n"


def readable(data: Any, *, sort_keys: bool = False, allow_nan: bool = True) -> str:
    """A document that people read too: indented, and letters as they are."""
    return json.dumps(data, indent=1, sort_keys=sort_keys, ensure_ascii=False, allow_nan=allow_nan)
