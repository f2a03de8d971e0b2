"""Where a value came from, in words a person can act on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

Layer = Literal["command line", "environment", ".env", "JSON file", "preset", "default"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The layer and the name under which a value was given.

    Attributes:
        layer: The layer, highest first: command line, environment, .env,
            JSON file, preset, default.
        name: The option, variable, JSON key or preset; empty for a default.
        file: The file it was read from, or None.
        line: The line in that file, or None where the format has no lines.
    """

    layer: Layer
    name: str = ""
    file: Path | None = None
    line: int | None = None

    def __str__(self) -> str:
        """Name the source so that it can be found and changed."""
        place = f" in {self.file}" if self.file else ""
        place += f" line {self.line}" if self.line else ""
        if self.layer == "environment":
            return f"environment variable {self.name}"
        if self.layer == "preset":
            return f"preset {self.name}"
        return f"{self.name}{place}" if self.name else "default"


DEFAULT = Source(layer="default")
