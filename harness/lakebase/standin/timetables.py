"""What rows of a timetable may hold; a wrong one is refused by name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from harness.errors import ConfigError

# A week: what is later is a mistake, and no timer.
LATEST_S = 7 * 86_400.0


def rows_of(rows: Any, *, example: str) -> list[Any]:
    """Return the rows of a timetable.

    Raises:
        ConfigError: It is no list of mappings.
    """
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        msg = f"a timetable must be a list of rows such as {example}, got {rows!r:.100}"
        raise ConfigError(msg)
    return list(rows)


def mapping_of(row: Any, *, example: str) -> Mapping[str, Any]:
    """Return one row.

    Raises:
        ConfigError: It is no mapping of names.
    """
    if not isinstance(row, Mapping) or not all(isinstance(key, str) for key in row):
        msg = f"a row of a timetable must be like {example}, got {row!r:.100}"
        raise ConfigError(msg)
    return row


def check_number(
    name: str, value: Any, *, low: float = 0.0, high: float = math.inf
) -> None:
    """Refuse what is no finite number between *low* and *high*.

    Raises:
        ConfigError: It is not.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high:
        most = "" if math.isinf(high) else f" and <= {high:g}"
        msg = f"{name} must be >= {low:g}{most}, got {value!r:.100}"
        raise ConfigError(msg)


def check_flag(name: str, value: Any) -> None:
    """Refuse what is neither true nor false.

    Raises:
        ConfigError: It is not.
    """
    if not isinstance(value, bool):
        msg = f"{name} must be true or false, got {value!r:.100}"
        raise ConfigError(msg)
