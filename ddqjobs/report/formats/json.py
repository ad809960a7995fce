"""A versioned document as JSON."""

from __future__ import annotations

import re

import msgspec


def of_document(document: msgspec.Struct) -> str:
    """Return the document; NaN and infinity are null."""
    text = msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
    # Legal in JSON, and yet what a terminal acts upon: DEL, C1 controls, bidirectional overrides.
    return re.sub("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", _escaped, text) + "\n"


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
