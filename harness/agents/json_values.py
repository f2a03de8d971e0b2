"""Values of untrusted JSON, taken only when they have the type they should."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def as_mapping(value: object) -> Mapping[str, Any]:
    """Return *value* if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """Return *value* if it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def as_text(value: object) -> str | None:
    """Return *value* if it is a string, else None."""
    return value if isinstance(value, str) else None


def as_count(value: object) -> int:
    """Return *value* if it is a whole number of at least 0, else 0."""
    if isinstance(value, int) and not isinstance(value, bool):
        return max(0, value)
    return 0
