"""Changes that somebody has looked at: kept in a file, beside the reports."""

from __future__ import annotations

import fnmatch
import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from harness.errors import ReportError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.reports.history.model import Change, Series

FILE_NAME = "acknowledged.json"


class Acknowledgement(BaseModel):
    """One entry of the file.

    Attributes:
        case: Node id, or a glob of it.
        metric: The metric, or "*".
        since: A commit (7 characters at least), or the date of the change.
        reason: Why it is as it should be.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    case: str = Field(min_length=1)
    metric: str = "*"
    since: str = Field(min_length=7)
    reason: str = Field(min_length=1)

    def covers_drift(self, series: Series) -> bool:
        """Whether it is about the slide of this series: a date within it."""
        day = _day(self.since)
        first, last = series.points[0].at.date(), series.points[-1].at.date()
        return (
            fnmatch.fnmatchcase(series.fullname, self.case.replace("[", "[[]"))
            and self.metric in {series.metric, "*"}
            and day is not None
            and first <= day <= last
        )

    def covers(self, fullname: str, metric: str, change: Change) -> bool:
        """Whether it is about this change and no other of the same case."""
        pattern = self.case.replace("[", "[[]")
        if not fnmatch.fnmatchcase(fullname, pattern):
            return False
        if self.metric not in {metric, "*"}:
            return False
        day = _day(self.since)
        if day is None:
            return change.first_after.commit.startswith(self.since)
        # What happened lies between the two nights.
        return change.last_before.at.date() <= day <= change.first_after.at.date()


_FILE = TypeAdapter(list[Acknowledgement])


def read_acknowledgements(folder: Path) -> list[Acknowledgement]:
    """Read the file of a folder of reports; none is an empty one.

    Raises:
        ReportError: If it is damaged: a change must not open up again unnoticed.
    """
    path = folder / FILE_NAME
    try:
        return _FILE.validate_json(path.read_bytes())
    except FileNotFoundError:
        return []
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise ReportError(msg) from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "its top level"
        msg = (
            f"{path} is damaged: {place}: {first['msg']}. It is a list of "
            '{"case": ..., "metric": ..., "since": commit or date, "reason": ...}'
        )
        raise ReportError(msg) from None


def add_acknowledgements(folder: Path, added: Sequence[Acknowledgement]) -> Path:
    """Add entries to the file.

    Raises:
        ReportError: If it is damaged or cannot be written.
    """
    entries = [*read_acknowledgements(folder), *added]
    path = folder / FILE_NAME
    part = path.with_name(f".{FILE_NAME}.part")
    document = [entry.model_dump() for entry in entries]
    try:
        part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf8")
        part.replace(path)
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror}"
        raise ReportError(msg) from None
    return path


def _day(text: str) -> date | None:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).date()
    except ValueError:
        return None
