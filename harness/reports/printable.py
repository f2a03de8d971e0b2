"""Text of a report made safe to print: it was written by somebody else."""

from __future__ import annotations

import re
from typing import Any

# Control characters move a terminal's cursor, directional ones reorder a page, and
# a lone surrogate cannot be sent at all. None belongs in the name of a case.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# What JSON writes some of them as. An escaped backslash before such a letter is taken
# for one too: then the values are looked at in vain.
_ESCAPE = re.compile(r"\\[bfnrtu]")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def printable(value: Any) -> Any:
    """Return the value with every unprintable character replaced."""
    if isinstance(value, str):
        return _UNPRINTABLE.sub(_REPLACEMENT, value)
    if isinstance(value, list):
        return [printable(item) for item in value]
    if isinstance(value, dict):
        return {printable(key): printable(item) for key, item in value.items()}
    return value


def is_printable_json(text: str) -> bool:
    """Whether no value of this JSON can need `printable`; False if unsure.

    JSON allows no bare control character inside a text, so in ASCII only an escape
    and DEL can stand for an unprintable one. Looking at the file once costs a
    hundredth of walking through its values.
    """
    plain = text.isascii() and "\x7f" not in text
    return plain and ("\\" not in text or _ESCAPE.search(text) is None)
